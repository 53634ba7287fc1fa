"""What is reported is what a walk minute by minute finds: with changed policies, many cases at once, and a downtime.

No job looks while the cases change: the service is down then, except for the moments of the changes.
"""

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import sqlalchemy as sa
from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter
from pydantic import ValidationError

from support_service.cases.case_rules import ALLOWED_STATUS_CHANGES
from support_service.cases.clocks.breaches import BreachDetector
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.clocks.policy import WEEKDAYS, PolicyContent
from support_service.core.domain.case_vocabulary import CLOCK_TARGETS
from support_service.desk.policies import PolicyService
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import audit_log, tickets
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from tests.support.clocks.minute_walk import MINUTE, NaiveCase, walk
from tests.support.clocks.strategies import calendars
from tests.support.examples import examples
from tests.support.leases import all_hold_the_lease

START = datetime(2025, 3, 28, 9, tzinfo=UTC)  # in Europe and Chatham clocks change in the days after
WALKED = timedelta(days=12)
MATCHED = SimpleNamespace(priority="normal", channel="email", team=None, tags=())
REPLICAS = 3

policies = st.tuples(calendars(), st.dictionaries(st.sampled_from(CLOCK_TARGETS), st.integers(1, 1500), min_size=1))
changes = st.lists(
    st.tuples(
        st.sampled_from([1, 60, 300, 1440]), st.sampled_from(("agent", "customer", "pending", "resolved", "open"))
    ),
    max_size=4,
)
# Each case: minutes after the start, the changes, and how many cases have the same ones.
opened = st.lists(st.tuples(st.integers(0, 2880), changes, st.sampled_from([1, 1, 2, 1000])), min_size=1, max_size=3)


def _time(minutes):
    return f"{minutes // 60:02}:{minutes % 60:02}"


def content_of(policy):
    (_, naive), targets = policy
    spans = {WEEKDAYS[day]: [[_time(begin), _time(end)] for begin, end in each] for day, each in naive.spans.items()}
    calendar = {"timeZone": naive.zone.key, "spans": spans, "holidays": sorted(map(str, naive.holidays))}
    return PolicyContent.model_validate(
        {"targets": {name: f"PT{minutes}M" for name, minutes in targets.items()}, "calendar": calendar}
    )


class Service:
    def __init__(self, database):
        self.database = database
        self.instruments = Instruments(NoOpMeter("test"))
        self.policies = KnownPolicies(database)
        self.tracker = ClockTracker(self.policies, self.instruments)

    async def open(self, ids, at):
        started = self.tracker.start_clocks(MATCHED, at, None)
        row = dict.fromkeys(("subject", "search_text"), "") | {
            "status": "open",
            "priority": "normal",
            "channel": "email",
        }
        row |= {"context": [], "tags": [], "created_at": at, "updated_at": at, "sla_policy": started.policy.id}
        async with self.database.transaction() as tx:
            await tx.execute(tickets.insert(), [row | {"id": each} for each in ids])
            for each in ids:
                await started.insert(tx, each)
        return started.policy.id

    async def change(self, case, change, at, *, is_answered):
        async with unit_of_work(self.database, SYSTEM_ORIGIN) as work:
            if change in ("agent", "customer"):
                message = (case.id, case.sla_policy, change, at)
                await self.tracker.note_message(work, *message, is_answered=is_answered)
            else:
                after = SimpleNamespace(id=case.id, sla_policy=case.sla_policy, status=change, updated_at=at)
                await self.tracker.note_status_change(work, case, after)

    async def detect(self):
        """Let several replicas look for breaches at once, each of which believes to hold the lease."""
        replicas = [BreachDetector(self.database, self.policies, self.instruments) for _ in range(REPLICAS)]
        with all_hold_the_lease():
            await asyncio.gather(*(each.run() for each in replicas))

    async def reported(self):
        """Return how often a breach of each case, target and due time is in the audit log."""
        entries = sa.select(audit_log.c.case_id, audit_log.c.changes).where(audit_log.c.action == "sla.breached")
        return Counter((row.case_id, row.changes) for row in await self.database.fetch_all(entries))


class Walked:
    def __init__(self, policy, at):
        (_, calendar), targets = policy
        self.naive = NaiveCase(calendar, targets)
        self.naive.open(None)
        self.at = at
        self.found = set()

    def until(self, end):
        for minute in walk(self.at, end):
            self._look(minute)
            self.naive.count(minute)
        self.at = end
        self._look(end)

    def _look(self, at):
        self.naive.look(at)
        for target, clock in self.naive.clocks.items():
            if clock.breached:
                self.found.add((target, clock.due))


async def run(path, policies, opened):
    """Open and change cases while no job runs, change the policy before each, and compare what a later job reports."""
    database = create_database(f"sqlite:///{path}")
    await database.open()
    try:
        service, walks = Service(database), {}
        administration = PolicyService(database, service.policies)
        for number, (after, changes, copies) in enumerate(opened):
            policy = policies[number % len(policies)]
            await administration.put(SYSTEM_ORIGIN, "all", content_of(policy))
            at = START + after * MINUTE
            ids = [f"{number}-{copy}" for copy in range(copies)]
            version = await service.open(ids, at)
            walked, case = Walked(policy, at), SimpleNamespace(id=ids[0], sla_policy=version, status="open")
            walks[ids[0]] = walked
            if copies > 1:  # nothing happens to the others
                walks |= dict.fromkeys(ids[1:], Walked(policy, at))
            for minutes, change in changes:
                at += minutes * MINUTE
                walked.until(at)
                if change in ("agent", "customer"):
                    await service.change(case, change, at, is_answered=walked.naive.answered)
                    walked.naive.message(change)
                elif change in ALLOWED_STATUS_CHANGES[case.status]:
                    await service.change(case, change, at, is_answered=walked.naive.answered)
                    walked.naive.change_status(change)
                    case.status = change
        await administration.delete(SYSTEM_ORIGIN, "all")
        await service.detect()
        end = START + WALKED
        for walked in set(walks.values()):
            walked.until(max(end, walked.at))
        expected = Counter((id_, *each) for id_, walked in walks.items() for each in walked.found)
        found = Counter()
        for (id_, text), times in (await service.reported()).items():
            changes = json.loads(text)
            due_at = datetime.fromisoformat(changes["dueAt"][1])
            if due_at < walks[id_].at:  # later ones are beyond the walk
                found[id_, changes["target"][1], due_at] += times
        assert found == expected
    finally:
        await database.close()


@examples(0.3, suppress_health_check=list(HealthCheck))
@given(policies=st.lists(policies, min_size=1, max_size=2), opened=opened)
def test_reported_breaches_are_those_of_a_walk(sqlite_template, policies, opened):
    """Each once, with its due time, whatever happened before the job ran."""
    try:
        for each in policies:
            content_of(each)
    except ValidationError:
        assume(condition=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.db"
        shutil.copy(sqlite_template, path)
        asyncio.run(run(path, policies, opened))
