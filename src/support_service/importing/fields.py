"""Values of other systems as fields of cases: texts within their limits, times, ids."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from typing import Any

from support_service.cases.model.vocabulary import MAX_TEXT_LENGTH, Json
from support_service.core.clock import format_time
from support_service.core.errors import FieldError, SupportError, problem
from support_service.core.ids import ID_LENGTH
from support_service.desk.customer_models import MAX_NAME_LENGTH, is_valid_contact

MAX_SUBJECT_LENGTH = 255
MAX_TAGS, MAX_TAG_LENGTH = 50, 64
MAX_HTML_LENGTH = 4 * 1024 * 1024  # characters; reading as many takes some seconds
NO_TEXT_PLACEHOLDER = "(no text)"  # of a message that has only files
BLOCK_TAGS = frozenset({"br", "p", "div", "tr", "li", "ul", "ol", "table", "blockquote", "hr", "h1", "h2", "h3", "h4"})
INVISIBLE_TAGS = frozenset({"script", "style", "head", "title"})


class ExportedObject:
    """An object of another system's export. What is missing or has another form is refused with its place."""

    def __init__(self, members: Json, place: str = "") -> None:
        self._members = members
        self._place = place

    def get(self, name: str) -> Any:
        """Return a value of any form, or None."""
        return self._members.get(name)

    def required_value(self, name: str) -> str | int:
        value = self.get(name)
        if value is None or value == "":
            raise self.refusal(name, "is missing")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.refusal(name, "must be a text or a whole number")
        return value

    def text(self, name: str) -> str:
        value = self.get(name) or ""
        if not isinstance(value, str):
            raise self.refusal(name, "must be a text")
        return value

    def time_value(self, name: str) -> str | None:
        """Return a time as `time` does."""
        try:
            return _parse_time(self.get(name))
        except (ValueError, OverflowError, OSError):
            raise self.refusal(name, "must be a time, such as 2026-05-12T09:00:00Z") from None

    def mapped_value(self, name: str, value: object, meanings: Mapping[str, str]) -> str:
        """Return the meaning of the value of a member, in any case of letters."""
        found = meanings.get(str(value).lower())
        if found is None:
            raise self.refusal(name, f"must be one of {', '.join(meanings)}")
        return found

    def child(self, name: str) -> "ExportedObject":
        """Return an object inside this one, empty if there is none."""
        return self._child_of_value(name, self.get(name) or {})

    def children(self, name: str) -> "list[ExportedObject]":
        """Return a list of objects inside this one, empty if there is none."""
        found = self.get(name) or []
        if not isinstance(found, list):
            raise self.refusal(name, "must be a list")
        return [self._child_of_value(f"{name}.{number}", each) for number, each in enumerate(found)]

    def refusal(self, name: str, rule: str) -> SupportError:
        field = f"{self._place}{name}"
        detail = f"The case is not in the form of the export: `{field}` {rule}."
        return problem("invalid_request", detail, [FieldError(field, rule)])

    def _child_of_value(self, name: str, found: object) -> "ExportedObject":
        if not isinstance(found, dict):
            raise self.refusal(name, "must be an object")
        return ExportedObject(found, f"{self._place}{name}.")


def in_order_of_time(messages: list[ExportedObject]) -> list[ExportedObject]:
    """Return messages by their times, and messages of the same time by their ids."""

    def sort_key(message: ExportedObject) -> tuple[str, int, str]:
        message_id, at = str(message.required_value("id")), message.time_value("created_at")
        if at is None:
            raise message.refusal("created_at", "is missing")
        return at, len(message_id), message_id

    return sorted(messages, key=sort_key)


def shortened(text: str, length: int) -> str:
    """Return a text that is cut to a length, with an ellipsis if it was longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def identifier(value: object, system: str, number: object) -> str | None:
    """Return an id of a customer or an agent: the value if it fits, otherwise the system and the number; or None."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if 0 < len(text) <= ID_LENGTH:
        return text
    return f"{system}-{number}"[:ID_LENGTH] if text or number else None


def customer(name: object, email: object, phone: object) -> dict[str, Any]:
    """Return the record of a customer, without what does not fit its limits."""
    contacts = [
        contact
        for kind, value in (("email", email), ("phone", phone))
        if isinstance(value, str) and is_valid_contact(contact := {"kind": kind, "value": value})
    ]
    text = " ".join(name.split()) if isinstance(name, str) else ""
    named = {"name": shortened(text, MAX_NAME_LENGTH)} if text and text.isprintable() else {}
    return named | ({"contacts": contacts} if contacts else {})


def cleaned_tags(values: object) -> list[str]:
    """Return tags within their limits; further ones are left out."""
    found = dict.fromkeys(str(value).strip()[:MAX_TAG_LENGTH] for value in values) if isinstance(values, list) else {}
    return [tag for tag in found if tag][:MAX_TAGS]


def split_text(text: str | None) -> list[str]:
    """Return a text in parts that messages can hold, cut at ends of lines where possible; never none."""
    remaining = (text or "").strip() or NO_TEXT_PLACEHOLDER
    found = []
    while len(remaining) > MAX_TEXT_LENGTH:
        end = remaining.rfind("\n", MAX_TEXT_LENGTH // 2, MAX_TEXT_LENGTH)
        cut = MAX_TEXT_LENGTH if end < 0 else end
        found.append(remaining[:cut])
        remaining = remaining[cut:].lstrip("\n")
    return [part if part.strip() else NO_TEXT_PLACEHOLDER for part in (*found, remaining or NO_TEXT_PLACEHOLDER)]


def split_message(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message as one or more, if its text is too long for one; later ones have `#2` and so on in their id."""
    for number, part in enumerate(split_text(message["message"]), 1):
        if number == 1:
            yield message | {"message": part}
        else:
            more = {
                name: message[name] for name in ("authorType", "authorId", "visibility", "sentAt") if name in message
            }
            yield more | {"message": part, "externalId": f"{message['externalId']}#{number}"}


def without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value: neither null nor empty."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def rfc3339_time(value: object) -> str | None:
    """Return a time as RFC 3339, of text (without an offset it is UTC) or of seconds since 1970; None for others."""
    try:
        return _parse_time(value)
    except (ValueError, OverflowError, OSError):  # no time, or one that UTC has no year for
        return str(value)  # refused with the reason when the case is validated


def _parse_time(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format_time(datetime.fromtimestamp(value, UTC)) if value > 0 else None
    if isinstance(value, datetime):
        return format_time(value if value.tzinfo else value.replace(tzinfo=UTC))
    if not isinstance(value, str) or not value.strip():
        return None
    text = re.sub(r"(?<!\s)\s+UTC$", "+00:00", value.strip())  # a search that begins once in each run of blanks
    return _parse_time(datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00")))


class _TextOfHtml(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in INVISIBLE_TAGS:
            self._unseen += 1
        elif tag in BLOCK_TAGS:
            self.text.append("\n")
        elif tag == "img":
            self.text.append(f"[{dict(attrs).get('alt') or 'image'}]")

    def handle_endtag(self, tag: str) -> None:
        if tag in INVISIBLE_TAGS:
            self._unseen = max(0, self._unseen - 1)
        elif tag in BLOCK_TAGS and tag != "br":
            self.text.append("\n")

    def parse_marked_section(self, i: int, report: bool = True) -> int:  # noqa: FBT001, FBT002 - the library
        """Leave out a section such as `<![x]>`, as browsers do. The library has an assertion that its name is known."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i, report)

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.text.append(re.sub(r"\s+", " ", data))


def text_of_html(html: str) -> str:
    """Return the text of HTML, with lines where blocks begin and end; formats, links and images are left out.

    A comment or tag that does not end is text, like all that follows it. Raises ValidationFailed for HTML that is too
    long.
    """
    if len(html) > MAX_HTML_LENGTH:
        raise problem(
            "invalid_request",
            f"A message has {len(html):,} characters of HTML; it may have at most {MAX_HTML_LENGTH:,}.",
        )
    parser = _TextOfHtml()
    parser.feed(html)
    # Not `close`: it searches the rest for an end at each place where a comment or tag begins.
    parser.handle_data(unescape(parser.rawdata))
    lines = (line.strip() for line in "".join(parser.text).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
