"""What on-call changes: overrides, dead letters of inbound events, and webhook deliveries."""

from support_service.api.models.oncall_actions import (
    DeadLetterPage,
    DeadLetterQuery,
    DeliveryPage,
    DeliveryQuery,
    NewOverride,
    ShownDeadLetter,
    ShownDelivery,
    ShownOverride,
)
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, post, put
from support_service.api.routing.etags import version_etag_header
from support_service.api.routing.route import DATABASE_PROBLEMS, Permission, Tag
from support_service.core import pagination
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.events.dead_letters import shown_event
from support_service.timeline.override_rules import parse_override_duration
from support_service.timeline.overrides import Override

TAG = Tag("on-call", "On-call: the state of the service's parts, overrides, dead letters and webhook deliveries.")
OVERRIDE_PATH = "/support/overrides/{override_name}"
DEAD_LETTERS_PATH = "/support/dead-letters"
DEAD_LETTER_PATH = DEAD_LETTERS_PATH + "/{letter_id}"
DELIVERIES_PATH = "/support/webhook-deliveries"
DELIVERY_PATH = DELIVERIES_PATH + "/{delivery_id}"

OVERRIDES_WRITE = Permission("overrides:write", {"supervisor": "all"})
LETTERS_READ = Permission("dead-letters:read", {"supervisor": "all"})
LETTERS_WRITE = Permission("dead-letters:write", {"supervisor": "all"})
DELIVERIES_READ = Permission("webhooks:read", {"supervisor": "all"})
DELIVERIES_WRITE = Permission("webhooks:write", {"supervisor": "all"})

OVERRIDE_PROBLEMS = (*DATABASE_PROBLEMS, "override_changed", "override_not_found")
LETTER_PROBLEMS = (*DATABASE_PROBLEMS, "broker_unavailable", "dead_letter_not_found")
DELIVERY_PROBLEMS = (*DATABASE_PROBLEMS, "delivery_not_found")


@put(OVERRIDE_PATH, access=OVERRIDES_WRITE, headers=("ETag",), problems=OVERRIDE_PROBLEMS)
async def set_override(
    call: Call, override_name: str, body: NewOverride, expected: ExpectedVersions
) -> Reply[ShownOverride]:
    """Set an override, in place of any override of the same name.

    The name is `order`, `payment` or `fulfillment`, which is then not called, or `ttl`. The override ends by itself
    after `duration`. This replica applies it at once, the others within about 2 seconds.
    """
    override = await call.service.overrides.put(
        call.origin,
        override_name,
        value=body.value,
        reason=body.reason,
        duration=parse_override_duration(body.duration),
        expected=expected,
    )
    return Reply(shown_override(override), version_etag_header(override.version))


@delete(OVERRIDE_PATH, access=OVERRIDES_WRITE, problems=OVERRIDE_PROBLEMS)
async def clear_override(call: Call, override_name: str, expected: ExpectedVersions) -> Reply[None]:
    """Clear an override before it expires.

    This replica applies it at once, the others within about 2 seconds.
    """
    await call.service.overrides.clear(call.origin, override_name, expected)
    return Reply(None)


def shown_override(override: Override) -> ShownOverride:
    return ShownOverride.model_construct(**{name: getattr(override, name) for name in ShownOverride.model_fields})


@get(DEAD_LETTERS_PATH, access=LETTERS_READ, problems=("broker_unavailable",))
async def list_dead_letters(call: Call, query: DeadLetterQuery) -> Reply[DeadLetterPage]:
    """List dead letters, oldest first.

    Their events are shown as they arrived, also with personal data: only supervisors, who see every case, may read
    them. Without Redis they are the dead letters of this process.
    """
    letters, more = await call.service.dead_letters.page(query.cursor or "", query.limit)
    items = []
    for letter in letters:
        event, truncated = shown_event(letter)
        items.append(
            ShownDeadLetter.model_construct(
                id=letter.id, at=letter.at, tries=letter.tries, reason=letter.reason, event=event, truncated=truncated
            )
        )
    return Reply(DeadLetterPage.model_construct(items=items, next_cursor=items[-1].id if more else None))


@post(DEAD_LETTER_PATH + "/replay", access=LETTERS_WRITE, problems=LETTER_PROBLEMS)
async def replay_dead_letter(call: Call, letter_id: str) -> Reply[None]:
    """Move a dead letter back to the end of its stream.

    It is applied as if it had just arrived. If it fails again, it becomes a dead letter with another id.
    """
    await call.service.dead_letters.replay(call.origin, letter_id)
    return Reply(None)


@delete(DEAD_LETTER_PATH, access=LETTERS_WRITE, problems=LETTER_PROBLEMS)
async def drop_dead_letter(call: Call, letter_id: str) -> Reply[None]:
    """Delete a dead letter.

    Its event is lost; the audit log keeps the id.
    """
    await call.service.dead_letters.drop(call.origin, letter_id)
    return Reply(None)


@get(DELIVERIES_PATH, access=DELIVERIES_READ, problems=DATABASE_PROBLEMS)
async def list_deliveries(call: Call, query: DeliveryQuery) -> Reply[DeliveryPage]:
    """List webhook deliveries in a state, latest `due` first.

    The events are not shown: they hold the data of cases. Failed deliveries are kept for 30 days, delivered ones for
    a day.
    """
    before = pagination.decode_timed_cursor(query.cursor)
    rows, more = await call.service.deliveries.page(query.state, before, query.limit)
    items = [ShownDelivery.model_construct(**row._asdict()) for row in rows]
    cursor = pagination.encode_timed_cursor(items[-1].due, items[-1].id) if more else None
    return Reply(DeliveryPage.model_construct(items=items, next_cursor=cursor))


@post(DELIVERY_PATH + "/replay", access=DELIVERIES_WRITE, problems=DELIVERY_PROBLEMS)
async def replay_delivery(call: Call, delivery_id: str) -> Reply[None]:
    """Schedule a webhook delivery again from now on.

    It is retried for a day, also if it was delivered before: the endpoint gets the same event id again.
    """
    await call.service.deliveries.replay(call.origin, delivery_id)
    return Reply(None)


@delete(DELIVERY_PATH, access=DELIVERIES_WRITE, problems=DELIVERY_PROBLEMS)
async def drop_delivery(call: Call, delivery_id: str) -> Reply[None]:
    """Delete a webhook delivery.

    It is not tried again; a try in progress is completed.
    """
    await call.service.deliveries.drop(call.origin, delivery_id)
    return Reply(None)
