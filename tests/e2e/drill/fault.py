"""A fault: how it is injected, exactly which alerts it must raise, and which check of a runbook tells its cause."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from observability.signals import ALERTS

from tests.e2e.drill.deployment import Deployment, Scenario
from tests.e2e.drill.runbook_checks import Cause

PAGES = {alert.name: alert.runbook for alert in ALERTS}
TIMELINE_BURN = "SupportTimelineErrorBudgetBurnFast"
PROBE = "SupportProbeFailing"

Injection = Callable[[Deployment], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault; `inject` holds it for the length of a block, and repairs it."""

    name: str
    alerts: tuple[str, ...]  # with their distinguishing label, such as `SupportTimelineSourceDown[order]`
    inject: Injection
    causes: tuple[Cause, ...] = ()  # none for a control, which must raise nothing
    before: Callable[[Deployment], Awaitable[None]] | None = None  # runs before monitoring starts
    scenario: Scenario = field(default_factory=Scenario)
    resolved_within: int = 6  # evaluations after the repair


def together(*faults: Fault) -> Fault:
    """Return faults of one scenario, which raise alerts and have causes of their own, as one fault."""

    @asynccontextmanager
    async def inject(deployment: Deployment) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for fault in faults:
                await stack.enter_async_context(fault.inject(deployment))
            yield

    return Fault(
        ", ".join(fault.name for fault in faults),
        tuple(alert for fault in faults for alert in fault.alerts),
        inject,
        tuple(cause for fault in faults for cause in fault.causes),
        resolved_within=max(fault.resolved_within for fault in faults) + len(faults),  # they are repaired in turn
    )


def fault(name: str, alerts: str, inject: Injection, cause: Cause | None = None, **more: object) -> Fault:
    """Return a fault; the check that tells its cause is on the page of its first alert unless it names another."""
    names = tuple(alerts.split())
    if cause is None:
        return Fault(name, names, inject, **more)
    page = cause.page or PAGES[names[0].partition("[")[0]]
    return Fault(name, names, inject, (replace(cause, page=page),), **more)
