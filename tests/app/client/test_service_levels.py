"""Service levels by the client: policies, the clocks of cases, lists by due time."""

from datetime import date, timedelta

import pytest

from support_service.client import (
    NotFound,
    PolicyCalendar,
    PolicyMatch,
    PolicyTargets,
    ValidationFailed,
    VersionConflict,
    WeekSpans,
)
from support_service.core.clock import utc_now

HOUR = timedelta(hours=1)


async def subjects(cases):
    return [case.subject async for case in cases]


async def test_policy_from_creation_to_deletion(api):
    calendar = PolicyCalendar(
        time_zone="Europe/Berlin", spans=WeekSpans(mon=[("08:00", "12:00")]), holidays=[date(2026, 12, 25)]
    )
    match = PolicyMatch(priority=["urgent"])
    created = await api.put_sla_policy(
        "urgent",
        match=match,
        targets=PolicyTargets(first_response=HOUR, resolution=timedelta(days=1)),
        calendar=calendar,
    )
    assert (created.match, created.calendar) == (match, calendar)
    changed = await api.put_sla_policy("urgent", version=created.version, targets=created.targets, public=True)
    assert (changed.targets, changed.calendar, changed.public) == (created.targets, None, True)
    assert await api.get_sla_policy("urgent") == changed
    (listed,) = await api.list_sla_policies()
    assert (listed.name, listed.version) == ("urgent", 0)
    with pytest.raises(VersionConflict) as conflict:
        await api.put_sla_policy("urgent", version=created.version, targets=created.targets)
    assert conflict.value.code == "sla_policy_changed"
    await api.delete_sla_policy("urgent", version=changed.version)
    with pytest.raises(NotFound) as missing:
        await api.get_sla_policy("urgent")
    assert missing.value.code == "sla_policy_not_found"


async def test_cases_have_clocks_and_are_listed_by_due_time(api):
    await api.put_sla_policy(
        "urgent", match=PolicyMatch(priority=["urgent"]), targets=PolicyTargets(first_response=HOUR)
    )
    await api.put_sla_policy("z-rest", targets=PolicyTargets(first_response=timedelta(days=366)))
    for subject, priority in (("Later", "low"), ("Sooner", "urgent")):
        case = await api.open_case(subject=subject, channel="email", priority=priority)
    assert case.sla is not None
    assert (case.sla.first_response.state, case.sla.resolution) == ("running", None)
    assert await subjects(api.list_cases(sort="due", page_size=1)) == ["Sooner", "Later"]
    assert await subjects(api.list_cases(due_before=utc_now() + 2 * HOUR)) == ["Sooner"]
    for within, found in ((2 * HOUR, ["Sooner"]), ("PT2H", ["Sooner"]), (timedelta(0), [])):
        assert await subjects(api.list_cases(due_within=within)) == found
    view = await api.create_view("Soon", {"due_within": 2 * HOUR})
    assert (await api.get_view(view.id)).count == 1
    assert [shown.sla.first_response.state async for shown in api.list_cases(priority="urgent")] == ["running"]


async def test_versions_of_lists_are_unknown_and_never_match(api):
    """Else a change of an item of a list would replace what it was never compared with."""
    await api.put_sla_policy("rest", targets=PolicyTargets(resolution=HOUR))
    await api.create_macro("late", text="Sorry")
    await api.create_view("All", {"status": "open"})
    (policy,) = await api.list_sla_policies()
    (macro,) = [macro async for macro in api.list_macros()]
    (view,) = [view async for view in api.list_views()]
    assert {policy.version, macro.version, view.version} == {0}
    for change in (
        api.delete_sla_policy("rest", version=policy.version),
        api.put_macro("late", version=macro.version, text="x"),
        api.change_view(view.id, version=view.version, name="x"),
    ):
        with pytest.raises(VersionConflict):
            await change


async def test_policy_without_enough_working_time_is_refused(api):
    never = PolicyCalendar(time_zone="Europe/Berlin", spans=WeekSpans())
    with pytest.raises(ValidationFailed) as invalid:
        await api.put_sla_policy("never", targets=PolicyTargets(resolution=HOUR), calendar=never)
    assert invalid.value.errors
