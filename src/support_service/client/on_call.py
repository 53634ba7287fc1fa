"""Operations of on-call: the state of the service, overrides, dead letters and webhook deliveries."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from support_service.api.models.oncall import OnCall
from support_service.api.models.oncall_actions import (
    DeadLetterPage,
    DeliveryPage,
    DeliveryState,
    ShownDeadLetter,
    ShownDelivery,
    ShownOverride,
)
from support_service.client.operations import Operations, json_members, parse

OVERRIDES = ("support", "overrides")
DEAD_LETTERS = ("support", "dead-letters")
DELIVERIES = ("support", "webhook-deliveries")


class OnCallOperations(Operations):
    """Operations of on-call. Lists are read page by page; `page_size` is the size of a page."""

    async def get_oncall(self) -> OnCall:
        """Get the state of the service's parts; a part that is down raises nothing."""
        return await self._read(OnCall, "support", "oncall")

    async def set_override(
        self,
        override_name: str,
        *,
        duration: timedelta | str,
        value: float | None = None,
        reason: str = "",
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ShownOverride:
        """Switch an upstream service off for some time, which needs a reason, or keep answers fresh for longer.

        The name is that of the service, or `ttl`, whose `value` is in seconds. An override of the same name is
        replaced.
        """
        body = json_members({"value": value, "reason": reason, "duration": duration})
        answer = await self._write("PUT", *OVERRIDES, override_name, body=body, version=version, key=idempotency_key)
        return parse(ShownOverride, answer)

    async def clear_override(
        self, override_name: str, *, version: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Clear an override before it expires."""
        await self._write("DELETE", *OVERRIDES, override_name, version=version, key=idempotency_key)

    def list_dead_letters(self, *, page_size: int | None = None) -> AsyncGenerator[ShownDeadLetter, None]:
        """Yield the inbound events that were given up, oldest first."""
        return self._items(lambda cursor: self._read(DeadLetterPage, *DEAD_LETTERS, limit=page_size, cursor=cursor))

    async def replay_dead_letter(self, letter_id: str, *, idempotency_key: str | None = None) -> None:
        """Move a dead letter back to the end of its stream. If it fails again, it gets another id."""
        await self._write("POST", *DEAD_LETTERS, letter_id, "replay", key=idempotency_key)

    async def drop_dead_letter(self, letter_id: str, *, idempotency_key: str | None = None) -> None:
        """Delete a dead letter."""
        await self._write("DELETE", *DEAD_LETTERS, letter_id, key=idempotency_key)

    def list_deliveries(
        self, *, state: DeliveryState = "failed", page_size: int | None = None
    ) -> AsyncGenerator[ShownDelivery, None]:
        """Yield the webhook deliveries in a state, latest `due` first."""
        return self._items(
            lambda cursor: self._read(DeliveryPage, *DELIVERIES, state=state, limit=page_size, cursor=cursor)
        )

    async def replay_delivery(self, delivery_id: int, *, idempotency_key: str | None = None) -> None:
        """Schedule a webhook delivery again from now on, for a day."""
        await self._write("POST", *DELIVERIES, str(delivery_id), "replay", key=idempotency_key)

    async def drop_delivery(self, delivery_id: int, *, idempotency_key: str | None = None) -> None:
        """Delete a webhook delivery."""
        await self._write("DELETE", *DELIVERIES, str(delivery_id), key=idempotency_key)
