"""Faults of the drill: how each is injected into a whole deployment and repaired, and which check tells its cause.

Signals declare them, and tests/e2e/drill/ runs them. Every wait of rules and routes is divided by `TIME_DIVISOR` and
every size by `SIZE_DIVISOR`, so that an hour of on-call takes a minute. Set `DRILL_TIME=30` on a busy machine, which
needs more time.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

TIME_DIVISOR = int(os.environ.get("DRILL_TIME", "60"))  # noqa: TID251 - no setting of the service
SIZE_DIVISOR = 1024
EVALUATION_SECONDS = 60 / TIME_DIVISOR
OVERRIDE_DELAY = 2  # evaluations: replicas read overrides every 2 s, in the drill as elsewhere
DATABASE_AND_ROLE = "support"  # on PostgreSQL; not a superuser, and the owner of a database of its name

Deployment: TypeAlias = Any
"""`Deployment` of tests/e2e/drill/deployment.py, which nothing but the drill imports."""
Injection = Callable[[Deployment], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class DrillScenario:
    """How the deployment of a fault differs from the usual one."""

    settings: dict[str, str] = field(default_factory=dict)  # of the replicas
    load: dict[str, float] = field(default_factory=dict)  # rates of `Traffic` that differ
    probe: tuple[str, ...] = ()  # arguments
    separate_events_redis: bool = False
    jwt: bool = False  # callers have JWTs, whose keys the replicas read from the issuer
    sign_in: bool = False  # people can sign in at a provider of OpenID Connect
    certificate: timedelta | None = None  # how long the certificate of order is valid, which then serves https
    manipulated: bool = False  # the clock, the files and the stop of the last replica can be changed while it runs
    linked: bool = False  # connections of the last replica to the database, Redis and payment can be changed
    disk: int | None = None  # bytes, if files lie on a separate disk
    database_clock: bool = False  # that of the database can be changed while it runs


@dataclass(frozen=True, slots=True)
class Cause:
    """A check of a page by its number, and what it prints if the fault is the cause."""

    check: int
    text: str  # regular expression; REPLICA is the instance that a fault affects
    page: str = ""  # by default the page of the fault's first alert
    typed: str = ""  # what a person types at the prompt of the check


@dataclass(frozen=True, slots=True)
class Action:
    """An action of a page, by its heading, that ends the alerts while the fault itself lasts.

    In `typed`, POD and NODE name the replica that a fault affects.
    """

    name: str
    typed: Sequence[str] = ()  # what a person types at the prompts of the block, one after another
    copied: str = ""  # regular expression of what a person copies from the output of the checks, and types instead
    page: str = ""  # by default the page of the fault's first alert
    leaves: Sequence[str] = ()  # alerts that only the repair of the cause ends
    undo: str = ""  # a command that takes the action back once the cause is repaired
    delay: int = 0  # evaluations until the service follows it, since its own intervals are not divided


# Actions that several pages have.
END_SESSION = Action("End the session that holds the lock", copied=r"pg_terminate_backend\((\d+)\)")
REPLACE = Action("Replace the replica", ("POD",))
MOVE_REPLICA = Action("Move the replica to another node", ("NODE", "POD"))


def switch_off(service: str, leaves: Sequence[str] = ()) -> Action:
    """Return the action of the pages about timelines that switches an upstream service off."""
    name = "Switch off the upstream service"
    return Action(name, (service,), leaves=leaves, undo="timeline clear all", delay=OVERRIDE_DELAY)


@dataclass(frozen=True, slots=True)
class DrillFault:
    """A fault. `inject` holds it for the length of a block, and repairs what an action has left of it.

    A fault that raises alerts has actions, or says in `only_repair` why none of its page ends them.
    """

    name: str
    alerts: Sequence[str]  # exactly the alerts that it raises, such as `SupportTimelineSourceDown[order]`
    inject: Injection
    causes: Sequence[Cause] = ()  # none for a control, which must raise nothing
    before: Callable[[Deployment], Awaitable[None]] | None = None  # runs before monitoring starts
    scenario: DrillScenario = field(default_factory=DrillScenario)
    resolved_within: int = 6  # evaluations after the action, or after the repair
    actions: Sequence[Action] = ()  # in this order
    only_repair: str = ""

    @property
    def ended_within(self) -> int:
        """Evaluations within which no alert may fire any more."""
        return self.resolved_within + sum(action.delay for action in self.actions)


@dataclass(frozen=True, slots=True)
class Exercise:
    """What people break and repair by hand in a drill, in English and Vietnamese, for the alert of this name."""

    breaks: tuple[str, str]
    repair: tuple[str, str]
    alert: str = ""  # by default the first one of the signal


@asynccontextmanager
async def repeatedly(operation: Callable[[], Awaitable[object]], interval: float) -> AsyncIterator[None]:
    """Repeat an operation for the length of a block. Let the last repetition finish."""
    done = asyncio.Event()

    async def repeat() -> None:
        while not done.is_set():
            await operation()
            await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        done.set()
        await task


@asynccontextmanager
async def restarted_with(replica: Any, **settings: str) -> AsyncIterator[None]:
    """Restart a replica with other settings, and with its own ones at the end of a block."""
    own = {name: replica.environment[name] for name in settings}
    await _restart(replica, settings)
    yield
    await _restart(replica, own)


async def _restart(replica: Any, settings: dict[str, str]) -> None:
    await replica.stop()
    replica.environment |= settings
    await replica.start()


@asynccontextmanager
async def changed_attributes(part: object, **values: object) -> AsyncIterator[None]:
    """Change attributes for the length of a block."""
    usual = {name: getattr(part, name) for name in values}
    for name, value in values.items():
        setattr(part, name, value)
    yield
    for name, value in usual.items():
        setattr(part, name, value)
