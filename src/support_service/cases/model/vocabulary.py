"""Field types of cases: allowed values, limits and descriptions. Pure."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import pydantic_core
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from support_service.core.clock import format_time, parse_time, utc_now
from support_service.core.domain import case_vocabulary
from support_service.core.domain.references import contradicting_id_names
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.json_input import JSON_STRING

Visibility = Annotated[
    Literal["public", "internal"],
    Field(description="`internal` notes and files are visible to agents only, never to customers"),
]
Json = dict[str, Any]
AnyJson = TypeVar("AnyJson", Json, list[Json])

# JSON schema validators disagree on which characters are spaces; this excludes the spaces of all of them.
NON_SPACE_PATTERN = r"[^\s\u001c-\u001f\u0085\ufeff]"
NONE_FILTER = "none"  # in a filter by agent or team: cases without one
MAX_TEXT_LENGTH = 65_536  # characters in a description or message
MAX_TAGS = 50  # of one case
MAX_MESSAGE_FILES = 20  # files that one message names
MAX_CONTEXT_ENTRIES = 500  # entries
MAX_JSON_BYTES = 65_536  # bytes of a field that holds arbitrary JSON
# Starts with the letter, which makes the search five times as fast.
EXPONENT_PATTERN = re.compile(rb"e(?<=[0-9]e)[-+]?[0-9]")
# Characters that no URI has, and that browsers drop or read as others: spaces, controls, invisible marks, backslashes.
_NOT_IN_URI = r"\s\u0000-\u0020\u007f-\u00a0\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\\<>\u0022"
_PORT = "(?:[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"  # up to 65535
_HOST = rf"(?:\[[0-9A-Fa-f:.]+\]|[^{_NOT_IN_URI}/?#@:\[\]]+)(?::{_PORT})?"  # without a user name
_NO_DOT_SEGMENT = "(?![^?#]*/(?:[.]|%2[Ee]){1,2}(?:[/?#]|$))"  # browsers would follow it to another path
# Empty, an http or https URL, or the path of an attachment of this service.
ATTACHMENT_URI_PATTERN = (
    rf"^(?:[Hh][Tt][Tt][Pp][Ss]?://{_HOST}(?:[/?#][^{_NOT_IN_URI}]*)?"
    rf"|{_NO_DOT_SEGMENT}/support/cases/[0-9A-Za-z-]+/attachments/[0-9A-Za-z-]+(?:[/?#][^{_NOT_IN_URI}]*)?)?$"
)
EXPONENT_NUMBER_PATTERN = re.compile(rb"(?<![0-9.])[0-9.]++e[-+]?[0-9]+")
# Months and years are refused, because their length varies; a day is 24 hours.
MAX_TARGET_DURATION = timedelta(days=366)
DURATION_PATTERN = r"^P(?=.)(?:\d{1,3}W|(?:\d{1,4}D)?(?:T(?=.)(?:\d{1,5}H)?(?:\d{1,6}M)?(?:\d{1,8}S)?)?)$"
_DURATION_PARTS = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")
MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)  # by which the clock of the sender may be ahead
MAX_SNOOZE = timedelta(days=366)
# PostgreSQL's driver takes the first second of the year 1 for -infinity.
EARLIEST_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def length_without_exponents(text: bytes) -> int:
    """Return the length of JSON in bytes with its numbers written without exponents.

    PostgreSQL returns numbers like this: `1e+308` has 309 digits.
    """
    if not EXPONENT_PATTERN.search(text):  # most JSON; a match may also be inside a string
        return len(text)
    shortened = EXPONENT_NUMBER_PATTERN.findall(JSON_STRING.sub(b"", text))
    return len(text) + sum(len(f"{Decimal(number.decode()):f}") - len(number) for number in shortened)


def _check_not_blank(value: str) -> str:
    if not re.search(NON_SPACE_PATTERN, value):
        raise ValueError("must not be blank")
    return value


def _check_safe_uri(value: str) -> str:
    if not re.fullmatch(ATTACHMENT_URI_PATTERN, value):
        raise ValueError(
            "must be an http or https URL without a user name and with a port up to 65535, or an attachment's `uri`. "
            "Percent-encode spaces and backslashes"
        )
    return value


def _check_is_not_word_none(value: str) -> str:
    if value == NONE_FILTER:
        raise ValueError(f"must not be `{NONE_FILTER}`, which stands for cases without an agent or a team; send null")
    return value


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must have printable characters only")
    return value


def _empty_as_null(value: object) -> object:
    return None if value == "" else value


def _check_json_size(value: AnyJson) -> AnyJson:
    # The limit is for compact JSON, so spaces that the client sent do not count. This takes less than 1 µs for a small
    # value.
    text = pydantic_core.to_json(value)
    if len(text) > MAX_JSON_BYTES or length_without_exponents(text) > MAX_JSON_BYTES:
        raise ValueError(f"must have at most {MAX_JSON_BYTES:,} bytes as compact JSON")
    return value


def _check_ids_do_not_contradict(entry: Json) -> Json:
    for name, other in contradicting_id_names(entry):
        raise ValueError(f"has {name} and {other} with different values; send one of them")
    return entry


def _object_as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


def _to_lower_word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _parse_priority(value: object) -> object:
    word = _to_lower_word(value)
    return "normal" if word == "medium" else word


def _parse_statuses(value: object) -> object:
    """Return the statuses of a query, which separates them by commas or repeats its parameter."""
    if not isinstance(value, str | list | tuple):
        return value
    parts = [value] if isinstance(value, str) else value
    words = {word.strip().lower(): None for part in parts for word in str(part).split(",") if word.strip()}
    if words.keys() - {*case_vocabulary.STATUSES}:
        known = ", ".join(case_vocabulary.STATUSES)
        raise ValueError(f"must be one or more of {known}, separated by commas")
    return tuple(sorted(words))


def _check_files_named_once(ids: list[str]) -> list[str]:
    if twice := [each for each, number in Counter(ids).items() if number > 1]:
        raise ValueError(f"names each file once, but has {', '.join(twice)} twice")
    return ids


def _parse_moment(value: object) -> datetime:
    """Return a time of a filter. Raises ValueError."""
    moment = parse_time(value)
    if moment is None:
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-05-12T08:30:00Z; write + as %2B")
    return moment


def format_duration(duration: timedelta) -> str:
    """Return a duration in ISO 8601, in hours, minutes and whole seconds, such as `PT26H5M`."""
    minutes, seconds = divmod(int(max(duration, timedelta(0)).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number]
    return f"PT{''.join(parts) or '0S'}"


def _parse_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not re.fullmatch(DURATION_PATTERN, value):
        raise ValueError(
            "must be a duration of ISO 8601 in weeks, or in days, hours, minutes and seconds: PT4H, P2DT12H"
        )
    match = _DURATION_PARTS.fullmatch(value)
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0,) * 5
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _check_target(value: timedelta) -> timedelta:
    if not timedelta(0) < value <= MAX_TARGET_DURATION:
        raise ValueError("must be longer than nothing, and at most P366D")
    return value


def _parse_sent_time(value: object) -> datetime:
    """Return a time in UTC, in microseconds. Raises ValueError."""
    moment = parse_time(value)
    if moment is None:
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-05-12T08:30:00Z")
    if moment < EARLIEST_TIME:
        raise ValueError("must not be before 1970")
    if moment > utc_now() + MAX_CLOCK_DIFFERENCE:
        raise ValueError("must be at most five minutes in the future")
    return moment


def check_snooze_end(moment: datetime) -> datetime:
    """Return the time at which a snooze is to end. Raises ValueError."""
    now = utc_now()
    if not now < moment <= now + MAX_SNOOZE:
        raise ValueError(f"must be in the future, and at most {MAX_SNOOZE.days} days ahead")
    return moment


NOT_BLANK_FIELD = Field(min_length=1, json_schema_extra={"pattern": NON_SPACE_PATTERN})
SentPriority = Literal["low", "normal", "high", "urgent", "medium"]
Priority = Annotated[
    case_vocabulary.Priority,
    BeforeValidator(_parse_priority, json_schema_input_type=SentPriority),
    Field(description="how urgent it is; `medium` is read as `normal`"),
]
Status = Annotated[case_vocabulary.Status, BeforeValidator(_to_lower_word)]  # as clients send it
PRINTABLE = AfterValidator(_check_printable)
AuthorType = Annotated[case_vocabulary.AuthorType, BeforeValidator(_to_lower_word)]
Subject = Annotated[str, NOT_BLANK_FIELD, Field(max_length=255), AfterValidator(_check_not_blank)]
Description = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
Identifier = Annotated[str, Field(min_length=1, max_length=36)]
AuthorId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        description="id of the author, which only services name; from other callers it must be their own. Without it: "
        "the customer of the case, the caller as an agent, or `bot`",
    ),
]
Assignee = Annotated[  # of an agent or a team
    Identifier,
    Field(json_schema_extra={"not": {"const": NONE_FILTER}, "pattern": NON_SPACE_PATTERN}),
    AfterValidator(_check_not_blank),
    AfterValidator(_check_is_not_word_none),
]
Channel = Annotated[
    str,
    NOT_BLANK_FIELD,
    Field(max_length=32, description="channel of the customer, such as `email`, `chat` or `phone`"),
    AfterValidator(_check_not_blank),
]
MessageText = Annotated[str, NOT_BLANK_FIELD, Field(max_length=MAX_TEXT_LENGTH), AfterValidator(_check_not_blank)]
CaseContext = Annotated[
    list[Annotated[Json, AfterValidator(_check_ids_do_not_contradict)]],
    Field(  # first, so that the number of entries is checked before any entry is
        max_length=MAX_CONTEXT_ENTRIES,
        description="what the case is about: "
        f"{', '.join(f'`{{type: {kind}, {kind}Id}}`' for kind in SERVICE_BY_KIND)}, or anything else. One object "
        "stands for a list of one. At most 64 KiB as compact JSON, numbers without exponents",
    ),
    BeforeValidator(_object_as_list, json_schema_input_type=list[Json] | Json),
    AfterValidator(_check_json_size),
]
MessageMetadata = Annotated[
    Json,
    Field(description="anything else about the message; at most 64 KiB as compact JSON, numbers without exponents"),
    AfterValidator(_check_json_size),
]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
# A new one comes last: cursors have the number of their sort.
CaseSort = Literal["newest", "updated", "waiting", "due", "snoozed"]
Statuses = Annotated[  # in alphabetical order
    tuple[case_vocabulary.Status, ...],
    BeforeValidator(_parse_statuses),
    PlainSerializer(",".join, return_type=str, when_used="json"),
]
Moment = Annotated[AwareDatetime, BeforeValidator(_parse_moment)]
AttachmentUri = Annotated[
    Annotated[
        str,
        Field(max_length=2048, json_schema_extra={"pattern": ATTACHMENT_URI_PATTERN}),
        AfterValidator(_check_safe_uri),
    ]
    | None,
    Field(
        description="URI of a file that belongs to the message: an http or https URL, or the `uri` of an attachment; "
        "empty counts as missing"
    ),
    BeforeValidator(_empty_as_null),
]
AttachmentIds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=36)]],
    Field(
        max_length=MAX_MESSAGE_FILES,
        description="ids of the files that belong to the message: staged files of the caller, or files of the case. "
        "Staged files become files of the case with the visibility of the message. Not together with `attachmentUri`",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_check_files_named_once),
]
Sentiment = Annotated[
    str, Field(max_length=32, description="sentiment of the message, such as `negative`; stored as sent")
]
TimeSpan = Annotated[
    timedelta,
    BeforeValidator(_parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
TargetDuration = Annotated[TimeSpan, AfterValidator(_check_target)]
ExternalId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        description="what the sending system calls it, such as a mail's Message-ID; a repeat gets what exists",
    ),
]
NewSentAt = Annotated[
    AwareDatetime,
    BeforeValidator(_parse_sent_time),
    Field(description="when it was written or sent, from 1970 on, at most five minutes in the future"),
]
StartedSnoozeEnd = Annotated[  # of a request that may be a repeat
    AwareDatetime,
    BeforeValidator(_parse_moment),
    Field(
        description="until when the pending case is snoozed. It becomes open then, or once its customer writes. In the "
        f"future, at most {MAX_SNOOZE.days} days ahead; only with the status `pending`"
    ),
]
SnoozeEnd = Annotated[StartedSnoozeEnd, AfterValidator(check_snooze_end)]
SentAt = Annotated[
    datetime,
    PlainSerializer(format_time, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""A time as it was sent: JSON has microseconds, also if they are zero, as the JSON that the database writes."""

LinkKind = Literal["related", "duplicate-of", "parent-of"]  # as clients create links
StoredLinkKind = LinkKind | Literal["split-from"]
ShownLinkKind = Literal["related", "duplicate-of", "duplicated-by", "parent-of", "child-of", "split-from", "split-into"]

RELATED: LinkKind = "related"
DUPLICATE_OF: LinkKind = "duplicate-of"
DUPLICATED_BY: ShownLinkKind = "duplicated-by"
SPLIT_FROM: Literal["split-from"] = "split-from"
# What the other case of a link sees; `related` is the same from both sides.
INVERSE_KINDS: Mapping[StoredLinkKind, ShownLinkKind] = {
    "duplicate-of": DUPLICATED_BY,
    "parent-of": "child-of",
    "split-from": "split-into",
}
PUBLIC_LINK_KINDS: tuple[StoredLinkKind, ...] = (DUPLICATE_OF, SPLIT_FROM)  # of which customers learn
MAX_LINKS = 100  # links of one case, from both sides
MAX_SPLIT_MESSAGES = 100  # messages of one split
MAX_DUPLICATES = 20  # duplicates whose conversations are read together with the original's
MAX_DUPLICATES_BYTES = 4 * 1024 * 1024  # bytes of these conversations; the last one may go beyond
