"""Cursors of the case list: where a page begins, as text that names the sort of its list. Clients get them sealed.

In the order of opening, that of the first sort, a cursor is the sequence number of a case. In the other orders it is
one byte for the sort, the time by which the case is sorted in microseconds since 1970, and its sequence number. A case
without this time comes last; its cursor has a time that no case has.
"""

import base64
import struct
from datetime import datetime
from typing import NamedTuple, get_args

from support_service.cases.model.vocabulary import CaseSort
from support_service.core import pagination
from support_service.core.clock import from_micros, to_micros

_TIMED = struct.Struct(">bqq")
_NO_TIME = -(1 << 63)
_NUMBERS: dict[CaseSort, int] = {sort: number for number, sort in enumerate(get_args(CaseSort)) if number}


class CasePlace(NamedTuple):
    """The place of a case in a list: its sequence number, and the time by which it is sorted, if it is by one."""

    seq: int
    at: datetime | None = None


def encode(sort: CaseSort, place: CasePlace) -> str:
    """Return the cursor of the page that begins after a place."""
    if sort not in _NUMBERS:
        return pagination.encode_cursor(place.seq)
    micros = _NO_TIME if place.at is None else to_micros(place.at)
    timed = _TIMED.pack(_NUMBERS[sort], micros, place.seq)
    return base64.urlsafe_b64encode(timed).decode().rstrip("=")


def decode(sort: CaseSort, cursor: str | None) -> CasePlace | None:
    """Return the place after which a page begins, or None without a cursor.

    Raises ValidationFailed for a cursor that this service did not issue, or that is of another sort.
    """
    if cursor is None:
        return None
    if sort not in _NUMBERS:
        seq = pagination.decode_cursor(cursor)
        return None if seq is None else CasePlace(seq)
    try:
        number, micros, seq = _TIMED.unpack(base64.b64decode(cursor + "=", altchars=b"-_", validate=True))
        place = CasePlace(seq, None if micros == _NO_TIME else from_micros(micros))
    except (ValueError, OverflowError, struct.error):  # binascii.Error is a ValueError
        raise pagination.invalid_cursor() from None
    if number != _NUMBERS[sort] or seq < 0:
        raise pagination.invalid_cursor()
    return place
