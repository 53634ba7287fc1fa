"""The order in which jobs and parts of the service end: each part while what it needs still works."""

import asyncio
from collections.abc import Sequence
from itertools import islice

import pytest
from aiohttp import ClientSession, web

from support_service.app import build_app
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.cases.clocks.breaches import BreachDetector
from support_service.cases.snoozes import SnoozeWaker
from support_service.events.broker.memory import InMemoryBroker, InMemoryLog
from support_service.events.broker.redis import RedisBroker
from support_service.events.broker.redis_log import RedisLog
from support_service.events.consumer import EventConsumer
from support_service.events.relay import OutboxRelay
from support_service.guard.shared_rates import SharedRateLimits
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.database.postgres.engine import PostgresDatabase
from support_service.platform.database.sqlite.engine import SqliteDatabase
from support_service.platform.settings import Settings
from support_service.platform.telemetry.provider import Metrics
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.redis_cache import RedisCache
from tests.conftest import both_databases

CLOSED = (
    *(Metrics, SqliteDatabase, PostgresDatabase, BrowserSessions, BreachDetector, SnoozeWaker, RedisCache),
    *(TimelineAggregator, LocalAttachmentStorage, InMemoryBroker, InMemoryLog, RedisBroker, RedisLog, OutboxRelay),
    *(SharedRateLimits, ClientSession),
)
LOOPS = {"ConnectionLimits.enforce_timeouts", "EventConsumer.run", "Feed.run", "JwksCache._refresh_periodically"}
LOOPS |= {"LoopLagSampler.run", "OutboxRelay.run", "SharedRateLimits.run", "WebhookSender.run"}
SESSION, SERVER, KEYS = "ClientSession.close", "Reading the state of Redis", "JwksCache._refresh_periodically"
CLOCKS = {"Reading the clock of the database", "Reading the number of the database"}
UNUSED = "http://127.0.0.1:9"  # no server


def order(*, shared: bool):
    """Return what ends, in its order. What is in one set ends together. `shared` if the service uses Redis."""

    def choose(with_redis: Sequence[str], in_memory: Sequence[str] = ()) -> list[set[str]]:
        return [{name} for name in (with_redis if shared else in_memory)]

    return [
        *({"Judging the figures of on-call"}, *choose([SESSION]), {"Checking the dependencies"}),
        {"Feed.run", "Ending presence", "Checking the callers of streams", "Passing on who is present"},
        *choose(["Reading the certificates of other servers"], ["EventConsumer.handle_waiting"]),
        {"Reading the inbound backlog", "Deleting old event ids", "EventConsumer.run"},
        {"Verifying the audit log"},
        {"OutboxRelay.run", "Reading the outbox backlog", "WebhookSender.run", "Counting webhook deliveries"},
        *({SESSION}, {"OutboxRelay.close"}),
        *choose(["RedisLog.close", SERVER, "RedisBroker.close"], ["InMemoryLog.close", "InMemoryBroker.close"]),
        *({"Deleting old notifications"}, {"Deleting old bulk changes"}),
        *({"Collecting garbage", "The sweep"}, {"Reading the attachment backlog"}, {"LocalAttachmentStorage.close"}),
        *({"Reading the timeline overrides"}, {"TimelineAggregator.close"}, {SESSION}),
        *choose([SERVER, "RedisCache.close"]),
        *({"Storing the claims of people"}, {"Adding to the counters of reports"}),
        {"Counting open cases", "Opening snoozed cases"},
        *({"SnoozeWaker.close"}, {"Reading the directory"}),
        {"Reading service level policies", "Reporting breaches of service levels", "Reading the clocks of cases"},
        *({"BreachDetector.close"}, {"Sealing the audit log"}),
        *({"Deleting old idempotency keys", "Settling idempotency keys"}, {"BrowserSessions.close"}),
        *([CLOCKS] if shared else []),
        *choose(["PostgresDatabase.close"], ["SqliteDatabase.close"]),
        *choose([KEYS, SESSION, KEYS, SESSION], ["Checking the token file"]),
        *({"ConnectionLimits.enforce_timeouts"}, *choose(["SharedRateLimits.run", "SharedRateLimits.close"])),
        *({"LoopLagSampler.run"}, {"Metrics.close"}),
    ]


@pytest.fixture
async def ended(monkeypatch):
    """The names of the jobs and parts that have ended, in their order, since the list was cleared."""
    ended = []

    def create_task(loop, coroutine, **options):
        task = asyncio.Task(coroutine, loop=loop, **options)
        name = coroutine.__qualname__
        if name == "Job.run":
            name = coroutine.cr_frame.f_locals["self"].name
        elif name not in LOOPS:
            return task
        task.add_done_callback(lambda _: ended.append(name))
        return task

    for owner, method in (*((each, "close") for each in CLOSED), (EventConsumer, "handle_waiting")):
        name, original = f"{owner.__name__}.{method}", getattr(owner, method)
        monkeypatch.setattr(
            owner, method, lambda *given, name=name, original=original: ended.append(name) or original(*given)
        )
    asyncio.get_running_loop().set_task_factory(create_task)
    yield ended
    asyncio.get_running_loop().set_task_factory(None)


@pytest.fixture
def shared(backend, environment, tmp_path, request):
    """Whether the service shares its data with other replicas. It then uses all that has jobs or connections."""
    if backend == "sqlite":
        path = tmp_path / "tokens.json"
        path.write_text('{"tokens": []}')
        environment |= {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(path)}
        return False
    redis = request.getfixturevalue("redis").url
    environment |= {"SUPPORT_REDIS_URL": redis, "SUPPORT_EVENTS_REDIS_URL": redis, "SUPPORT_PROMETHEUS_URL": UNUSED}
    environment |= {"SUPPORT_AUTH": "jwt", "SUPPORT_JWT_KEYS": f"{UNUSED}/keys", "SUPPORT_JWT_ISSUER": "issuer"}
    environment |= {"SUPPORT_JWT_AUDIENCE": "support", "SUPPORT_OIDC_ISSUER": "https://127.0.0.1:9"}
    environment |= {"SUPPORT_OIDC_CLIENT_ID": "console"}
    return True


@both_databases
async def test_each_part_ends_before_what_it_needs(environment, timings, shared, ended):
    """Jobs too: of a part, they end before the part is closed, and after all parts that use it."""
    app, _ = build_app(Settings.load(environment), timings)
    runner = web.AppRunner(app)
    await runner.setup()
    ended.clear()
    await runner.cleanup()
    expected, names = order(shared=shared), iter(ended)
    assert [*({*islice(names, len(group))} for group in expected), *names] == expected
