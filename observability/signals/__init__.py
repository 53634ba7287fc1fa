"""One file for each signal, named as its runbook: alerts, thresholds with their reasons, panels, and faults."""

from importlib import import_module
from pkgutil import iter_modules

from observability.signal import Signal

_MODULES = [import_module(f"{__name__}.{name}") for name in sorted(module.name for module in iter_modules(__path__))]
SIGNALS: tuple[Signal, ...] = tuple(module.SIGNAL for module in _MODULES)
ALERTS = tuple(alert for signal in SIGNALS for alert in signal.alerts)
FAULTS = {name: fault for signal in SIGNALS for name, fault in signal.faults.items()}
