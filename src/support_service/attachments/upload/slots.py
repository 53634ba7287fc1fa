"""UploadSlots: a limit of concurrent uploads, in total and for each agent or customer."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, Unavailable
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.instruments.attachments import ATTACHMENT_UPLOADS, REJECTIONS
from support_service.platform.telemetry.labels import known_or_other

# One agent or customer may use a quarter of the upload slots, so that their slow uploads do not block everyone else.
MAX_UPLOAD_SHARE_DIVISOR = 4


class UploadSlots:
    """Counts the uploads in progress. Each upload occupies a slot from its first check to its last byte."""

    def __init__(self, instruments: Instruments, slots: int) -> None:
        self._instruments = instruments
        self._slots = slots
        self._slots_per_user = max(1, slots // MAX_UPLOAD_SHARE_DIVISOR)
        self._active = 0
        self._active_by_user: Counter[tuple[str, str | None]] = Counter()  # agents and customers only
        instruments.observe(ATTACHMENT_UPLOADS, lambda: [(self._active, {})])

    @contextmanager
    def occupy(self, principal: Principal) -> Iterator[None]:
        """Occupy a slot for the duration of the block; count rejections and client disconnects.

        Raises Unavailable if all slots are in use, or the share of this agent or customer.
        """
        try:
            with self._slot(principal):
                yield
        except SupportError as refusal:
            self._instruments.attachment_rejected.add(1, {"reason": known_or_other(refusal.code, REJECTIONS)})
            raise
        except ConnectionError:
            self._instruments.attachment_rejected.add(1, {"reason": "client_left"})
            raise

    @contextmanager
    def _slot(self, principal: Principal) -> Iterator[None]:
        user = (principal.name, principal.subject) if principal.role in ("agent", "customer") else None
        if self._active >= self._slots or (user and self._active_by_user[user] >= self._slots_per_user):
            raise Unavailable("uploads_busy", "Too many uploads are in progress; try again in a moment.")
        self._active += 1
        if user:
            self._active_by_user[user] += 1
        try:
            yield
        finally:
            self._active -= 1
            if user:
                self._active_by_user[user] -= 1
                if not self._active_by_user[user]:
                    del self._active_by_user[user]
