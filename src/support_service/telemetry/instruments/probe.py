"""Instruments of `support-service probe`, which runs as a separate process."""

from support_service.telemetry.instruments.spec import InstrumentSpec

PROBE_STEPS = ("open", "message", "upload", "download", "event", "timeline", "refresh", "close", "delete")

PROBE_SUCCESS = InstrumentSpec(
    "support.probe.success", "gauge", "{check}", "1 where the last synthetic check was good, else 0", {}
)
PROBE_STEP = InstrumentSpec(
    "support.probe.step",
    "gauge",
    "s",
    "Duration of each step of the last synthetic check",
    {"step": PROBE_STEPS},
)
PROBE_STEP_SUCCESS = InstrumentSpec(
    "support.probe.step_success",
    "gauge",
    "{check}",
    "1 for each step of the last synthetic check that was good, 0 for one that was slow or wrong; no value for a step "
    "that was skipped",
    {"step": PROBE_STEPS},
)
PROBE_LAST_SUCCESS = InstrumentSpec(
    "support.probe.last_success_timestamp", "gauge", "s", "When a synthetic check was last good, in Unix time", {}
)
