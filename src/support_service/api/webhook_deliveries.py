"""Webhook deliveries: on-call lists, replays and drops them."""

from support_service.api.models.oncall_actions import DeliveryPage, DeliveryQuery, ShownDelivery
from support_service.api.overrides import TAG
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, post
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.api.routing.route import Permission
from support_service.core import pagination

DELIVERIES = "/support/webhook-deliveries"
DELIVERY = DELIVERIES + "/{delivery_id}"

READ = Permission("webhooks:read", {"supervisor": "all"})
WRITE = Permission("webhooks:write", {"supervisor": "all"})
WRITE_PROBLEMS = (*DATABASE_PROBLEMS, "delivery_not_found")


@get(DELIVERIES, tag=TAG, access=READ, problems=DATABASE_PROBLEMS)
async def list_deliveries(call: Call, query: DeliveryQuery) -> Reply[DeliveryPage]:
    """List webhook deliveries in a state, latest `due` first.

    The events are not shown: they hold the data of cases. Failed deliveries are kept for 30 days, delivered ones for
    a day.
    """
    before = pagination.decode_timed_cursor(query.cursor)
    rows, more = await call.services.deliveries.page(query.state, before, query.limit)
    items = [ShownDelivery.model_construct(**row._asdict()) for row in rows]
    cursor = pagination.encode_timed_cursor(items[-1].due, items[-1].id) if more else None
    return Reply(DeliveryPage.model_construct(items=items, next_cursor=cursor))


@post(DELIVERY + "/replay", tag=TAG, access=WRITE, problems=WRITE_PROBLEMS)
async def replay_delivery(call: Call, delivery_id: str) -> Reply[None]:
    """Schedule a webhook delivery again from now on.

    It is retried for a day, also if it was delivered before: the endpoint gets the same event id again.
    """
    await call.services.deliveries.replay(call.write_origin, delivery_id)
    return Reply(None)


@delete(DELIVERY, tag=TAG, access=WRITE, problems=WRITE_PROBLEMS)
async def drop_delivery(call: Call, delivery_id: str) -> Reply[None]:
    """Delete a webhook delivery.

    It is not tried again; a try in progress is completed.
    """
    await call.services.deliveries.drop(call.write_origin, delivery_id)
    return Reply(None)
