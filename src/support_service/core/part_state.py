"""What a part of the service says of itself: its status for the health page, and its card for on-call."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

OK: Final = "ok"  # the status of a part without a fault; with one, it is a problem code
OFF: Final = "off"  # the status of a part that is not configured


@dataclass(frozen=True, slots=True)
class OncallCard:
    """The figures of a part, by the names of the fields in the API. A card without a time was never read."""

    as_of: datetime | None  # when the figures were read
    figures: Mapping[str, Any]
    error: str | None = None  # why the part does not answer, or fails
    scope: Literal["service", "replica"] = "service"  # whose figures they are: of all replicas, or of this one
