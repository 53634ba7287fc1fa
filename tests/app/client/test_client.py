"""The client against the service: what each operation returns, and what it raises."""

import asyncio

import pytest
from aiohttp import web

from support_service.client import (
    CaseSummary,
    Conflict,
    Forbidden,
    NotFound,
    SupportClient,
    Unauthenticated,
    UnexpectedAnswer,
    ValidationFailed,
    VersionConflict,
)
from support_service.core.clock import utc_now
from support_service.core.errors import UserError
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token
from tests.support.calls import eventually


async def opened(api, **fields):
    return await api.open_case(**{"subject": "Parcel late", "channel": "email"} | fields)


async def listed(items):
    return [item async for item in items]


async def test_case_from_opening_to_deletion(api):
    message = {"author_type": "customer", "message": "Where is it?", "metadata": {"in_reply_to": 7}}
    case = await opened(api, channel="synthetic", customer_id="customer-17", initial_message=message, tags=["late"])
    assert (case.subject, case.customer_id, case.version) == ("Parcel late", "customer-17", 1)
    assert case.messages[0].metadata == {"in_reply_to": 7}
    answer = await api.add_message(case.id, author_type="agent", message="On it.")
    case = await api.get_case(case.id, include_timeline=True)
    assert (case.messages[1], case.version) == (answer, 2)
    assert {entry["type"] for entry in case.timeline} >= {"conversation"}
    part = await api.get_case(case.id, messages_limit=1)
    assert (len(part.messages), part.more_messages) == (1, True)
    pending = await api.set_status(case.id, "pending", assigned_agent_id="agent-7")
    assert (pending.status, pending.assigned_agent_id, pending.version) == ("pending", "agent-7", 3)
    assert (await api.workload("agent-7")).pending == 0  # synthetic cases do not count
    assert (await api.refresh_timeline(case.id)).version == 3
    closed = await api.close_case(case.id, message="It arrived.")
    assert (closed.status, len(closed.messages)) == ("closed", 3)
    await api.delete_case(case.id, version=closed.version)
    with pytest.raises(NotFound) as gone:
        await api.get_case(case.id)
    assert (gone.value.code, gone.value.status) == ("case_not_found", 404)
    assert gone.value.request_id


async def test_lists_are_read_page_by_page(api):
    subjects = [f"Case {number}" for number in range(7)]
    for subject in subjects:
        await opened(api, subject=subject)
    cases = await listed(api.list_cases(status="open", page_size=3))
    assert [case.subject for case in cases] == subjects[::-1]
    assert {case.version for case in cases} == {0}
    assert await listed(api.list_cases(status="closed")) == []
    filters = {"status": ("open", "pending"), "tag": ["late", "vip"], "updated_after": cases[0].created_at}
    assert await listed(api.list_cases(sort="updated", **filters)) == []
    await api.change_case(cases[3].id, tags=["vip", "late"])
    assert [case.id for case in await listed(api.list_cases(sort="updated", **filters))] == [cases[3].id]
    changes = await listed(api.list_audit(cases[0].id, page_size=1))
    assert [entry.action for entry in changes] == ["case.opened"]


async def test_customer_has_cases_and_references(api):
    await opened(api, customer_id="customer-9", context=[{"type": "order", "orderId": "ORD-1"}])
    page = await api.get_customer("customer-9", limit=1)
    assert ([case.subject for case in page.cases], page.references.orders) == (["Parcel late"], ["ORD-1"])


async def test_change_is_made_on_the_expected_version_only(api):
    case = await opened(api, description="Late")
    changed = await api.change_case(case.id, version=case.version, priority="high", description=None)
    assert (changed.priority, changed.description, changed.version) == ("high", None, 2)
    with pytest.raises(VersionConflict) as conflict:
        await api.add_message(case.id, version=case.version, author_type="agent", message="Too late")
    assert conflict.value.code == "case_changed"
    with pytest.raises(VersionConflict):
        await api.change_case((await listed(api.list_cases()))[0].id, version=0, priority="low")


async def test_update_reads_the_case_again_after_a_conflict(api):
    """Twelve callers that each add a tag leave twelve tags. An update without a change changes nothing."""
    case = await opened(api)
    await asyncio.gather(
        *(api.update_case(case.id, lambda now, tag=f"tag-{n}": {"tags": [*now.tags, tag]}) for n in range(12))
    )
    case = await api.get_case(case.id)
    assert (sorted(case.tags), case.version) == (sorted(f"tag-{n}" for n in range(12)), 13)
    assert isinstance(await api.update_case(case.id, lambda _: None), CaseSummary)
    assert (await api.get_case(case.id)).version == case.version


async def test_fields_that_no_answer_has_are_not_there(api):
    """Their defaults would say that no case is synthetic, has followers, or has a duplicate."""
    original = await opened(api, customer_id="customer-9", assigned_agent_id="agent-7")
    await api.add_follower(original.id, "agent-8")
    await api.add_link((await opened(api)).id, original.id, "duplicate-of")
    synthetic = await opened(api, channel="synthetic")
    (listed_case,) = await listed(api.list_cases(customer_id="customer-9"))
    (case_of_customer,) = (await api.get_customer("customer-9")).cases
    cases = [original, synthetic, await api.get_case(original.id), await api.change_case(original.id, priority="high")]
    for case in (*cases, listed_case, case_of_customer):
        for name in ("synthetic", "followers", "has_duplicates", "sla_policy", "clocks", "timeline_epoch"):
            with pytest.raises(AttributeError):
                getattr(case, name)
        assert type(case).model_validate_json(case.model_dump_json(by_alias=True)).subject == case.subject
    assert not hasattr(original, "match")
    assert [listed_case.version, case_of_customer.version] == [0, 0]
    assert not hasattr(await api.put_agent("agent-8", display_name="Minh"), "name_from_claims")
    assert not any(hasattr(agent, "name_from_claims") for agent in await listed(api.list_agents()))


async def test_links(api):
    case, other = await opened(api), await opened(api)
    link = await api.add_link(case.id, other.id, "duplicate-of")
    assert (await api.get_case(other.id)).links[0].kind == "duplicated-by"
    linked = await api.get_case(other.id, include_linked=True, include_timeline=True)
    assert {entry["ticketId"] for entry in linked.timeline} == {case.id, other.id}
    await api.remove_link(case.id, link.id)
    assert (await api.get_case(other.id)).links == []


async def test_views(api):
    await opened(api, assigned_agent_id="agent-1")
    view = await api.create_view("Mine", {"assigned_agent_id": "agent-1"})
    assert (view.query, view.version) == ({"assignedAgentId": "agent-1"}, 1)
    assert (await api.get_view(view.id)).count == 1
    changed = await api.change_view(view.id, version=1, query={"customer_id": "c"})
    assert (changed.name, changed.query, changed.version) == ("Mine", {"customerId": "c"}, 2)
    assert [(each.id, each.count) for each in await listed(api.list_views())] == [(view.id, 0)]
    await api.delete_view(view.id, version=2)
    assert await listed(api.list_views()) == []


async def test_bulk_changes(api):
    """None removes the agent. A query has the filters of a list by their names."""
    case = await opened(api, assigned_agent_id="agent-7", tags=["late"])
    query = {"assigned_agent_id": "agent-7", "status": ["open", "pending"], "tag": ["late"]}
    done = await api.bulk_change({"assigned_agent_id": None, "add_tags": ["storm"]}, query=query)
    assert [(item.id, item.outcome) for item in done.items] == [(case.id, "changed")]
    assert await api.get_bulk_change(done.id) == done
    now = await api.get_case(case.id)
    assert (now.assigned_agent_id, now.tags) == (None, ["late", "storm"])
    undone = await api.undo_bulk_change(done.id)
    assert (undone.undoes, undone.counts.undone) == (done.id, 1)
    assert (await api.get_case(case.id)).assigned_agent_id == "agent-7"


async def test_macros(api):
    macro = await api.create_macro("late", text="Hello {{customer.id}}", tags=["late"])
    case = await opened(api, customer_id="customer-17")
    assert (await api.get_macro("late")).text == macro.text
    filled = await api.preview_macro(case.id, "late")
    assert (filled.text, filled.tags) == ("Hello customer-17", ["late"])
    replaced = await api.put_macro("late", version=macro.version, text="Bye", status="pending")
    assert (replaced.text, replaced.status, replaced.version > macro.version) == ("Bye", "pending", True)
    assert [each.name for each in await listed(api.list_macros(page_size=1))] == ["late"]
    await api.delete_macro("late")
    with pytest.raises(NotFound):
        await api.get_macro("late")


async def test_events_of_other_services_reach_the_case(api):
    case = await opened(api, context=[{"type": "order", "orderId": "ORD-1"}])
    data = {"orderId": "ORD-1", "status": "shipped"}
    event = {"specversion": "1.0", "id": "e-1", "source": "/orders", "type": "order.status.changed.v1", "data": data}
    assert not (await api.send_event(event)).ignored
    assert (await api.send_event({"eventType": "something.else", "eventId": "e-2"})).ignored

    async def messages():
        return (await api.get_case(case.id)).messages

    assert [message.author_type for message in await eventually(messages)] == ["bot"]


async def test_service_describes_itself(api):
    assert (await api.health()).status == (await api.livez()).status == "ok"
    assert (await api.readyz()).status == "ready"
    assert (await api.get_me()).permissions["cases:write"] == "all"
    assert (await api.openapi())["openapi"].startswith("3.1")
    assert (await api.asyncapi())["asyncapi"].startswith("3.0")
    assert "<html" in await api.docs()
    assert "support_" in await api.metrics()


async def test_refusals_are_exceptions_of_their_kind(api):
    with pytest.raises(ValidationFailed) as invalid:
        await opened(api, subject=" ", priority="soon")
    assert invalid.value.code == "invalid_request"
    assert [error.field for error in invalid.value.errors] == ["subject", "priority"]
    case = await opened(api)
    with pytest.raises(Conflict, match="close"):
        await api.delete_case(case.id)
    with pytest.raises(NotFound):
        await api.get_case("../../health?x=\udcff")


async def test_token_is_sent(make_client, tmp_path):
    tokens = tmp_path / "tokens.json"
    token = new_token()
    with edit_token_file(tokens) as entries:
        digest = hash_token(token)
        entries.append(TokenEntry(name="lan", role="agent", subject="agent-1", sha256=digest, created=utc_now()))
    service = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(tokens))
    url = str(service.make_url("/"))
    async with SupportClient(url, token=token) as api:
        assert (await api.get_me()).name == "lan"
        with pytest.raises(Forbidden) as refused:
            await api.create_macro("late", text="Hello")
        assert refused.value.code == "permission_missing"
    current = iter([token, "another"])
    async with SupportClient(url, token=lambda: next(current)) as api:
        assert (await api.get_me()).subject == "agent-1"
        with pytest.raises(Unauthenticated):
            await api.get_me()


async def test_answer_of_another_server_is_unexpected(answering):
    async def answer(request):
        return web.json_response({"name": 7}) if request.path == "/support/me" else web.Response(text="<html>")

    api = await answering(answer)
    for call in (api.get_me, api.openapi):
        with pytest.raises(UnexpectedAnswer):
            await call()


@pytest.mark.parametrize("address", ["", "127.0.0.1:8000", "ftp://host", "http://"])
def test_address_needs_a_scheme_and_a_host(address):
    with pytest.raises(UserError):
        SupportClient(address)
