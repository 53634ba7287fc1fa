"""Excerpts of texts: a message in one line, and where a case matches a search, with the words that match. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from support_service.cases.model.case import MAX_BEGINNING, CaseMatch, CaseSummary, MatchField
from support_service.core.domain.references import NAME_BY_REFERENCE_KIND, reference_rows
from support_service.core.search_words import LocatedWords, SoughtIds, padded_terms

MAX_SNIPPET_LENGTH = 160  # characters of the text in a snippet
MAX_CUT_WORD_LENGTH = 20  # characters of a word that are left out in order to cut between words
CHARACTERS_BEFORE_MATCH = 40  # characters of a snippet before the first word that matches
MAX_MESSAGE_LENGTH = 16_384  # characters of a message in which its match is looked for
ELLIPSIS = "…"
# A line behind which a message quotes another one, or is signed: `-- `, `-----Original Message-----`, `_____`.
END_OF_MESSAGE = re.compile(r"--|-{3,}.*-{3,}|_{5,}")
TAG_SEPARATOR = ", "

TextSpan = tuple[int, int]


class SearchedField(NamedTuple):
    """A field of a case as it is searched, with the index of the first word of each term that it contains."""

    name: MatchField
    text: str
    words: LocatedWords
    first_word_by_term: dict[str, int]


def match_of(query: str, sought: SoughtIds | None, case: CaseSummary, message: str | None) -> CaseMatch | None:
    """Return where a case matches that a query of `parse_search_query`, or one of the sought ids, found.

    `message` is the id of its newest message that matches, a space and the beginning of its text; None if the case
    itself matches.
    """
    if sought and (named := _match_of_ids(sought, case)):
        return named
    message_id, _, text = (message or "").partition(" ")
    terms = tuple(dict.fromkeys(padded_terms(query)))
    match = find_match(terms, case, None if message is None else text)
    if match and match.field == "message":
        match.message_id = message_id
    return match


def _match_of_ids(sought: SoughtIds, case: CaseSummary) -> CaseMatch | None:
    """Return which id of a case is sought."""
    if sought.prefix and case.id.startswith(sought.prefix):
        return CaseMatch(field="id", snippet=case.id, highlights=[[0, len(sought.prefix)]])
    named = [] if case.external_id is None else [("externalId", case.external_id)]
    named += [(NAME_BY_REFERENCE_KIND[kind], value) for kind, value in reference_rows(case.context)]
    for name, value in named:
        if value == sought.value or (name != "externalId" and value == sought.capitals):
            return CaseMatch(field=name, snippet=value, highlights=[[0, len(value)]])
    return None


def one_line_excerpt(text: str) -> str:
    """Return the beginning of a message in one line of at most `MAX_SNIPPET_LENGTH` characters.

    Quotations are left out, with the line before that names their author, and so is the signature. A message with
    nothing else is shown with them.
    """
    lines: list[str] = []
    text = text[:MAX_BEGINNING]
    for line in map(str.strip, text.splitlines()):
        if END_OF_MESSAGE.fullmatch(line):
            break
        if not line.startswith(">"):
            lines += [line] if line else []
        elif lines and lines[-1].endswith(":") and any(map(str.isdigit, lines[-1])):  # On 12 May 2026, Lan wrote:
            lines.pop()
    line = " ".join(" ".join(lines or [text]).split())
    if len(line) <= MAX_SNIPPET_LENGTH:
        return line
    return f"{line[: _last_word_end(line, 0, MAX_SNIPPET_LENGTH - 1)]}{ELLIPSIS}"


def find_match(terms: Sequence[str], case: CaseSummary, message: str | None) -> CaseMatch | None:
    """Return where a case, or the message, contains the terms of a query; None if they are not all found.

    Of several fields, the field with the most terms is taken.
    """
    fields = [_search_field("message", message, terms)] if message is not None else _searched_fields_of(case, terms)
    if any(all(term not in field.first_word_by_term for field in fields) for term in terms):
        if message is None or len(message) < MAX_MESSAGE_LENGTH:
            return None
        # The words are in the rest of the message.
        return _build_match(fields[0], ())
    return _build_match(max(fields, key=lambda field: len(field.first_word_by_term)), terms)


def _searched_fields_of(case: CaseSummary, terms: Sequence[str]) -> list[SearchedField]:
    texts: dict[MatchField, str | None] = {
        "subject": case.subject,
        "description": case.description,
        "customerId": case.customer_id,
        "tags": TAG_SEPARATOR.join(case.tags),
    }
    return [_search_field(name, text or "", terms) for name, text in texts.items()]


def _search_field(name: MatchField, text: str, terms: Sequence[str]) -> SearchedField:
    words = LocatedWords(text)
    found = {term: index for term in terms if (index := words.find(term)) is not None}
    return SearchedField(name, text, words, found)


def _build_match(field: SearchedField, terms: Sequence[str]) -> CaseMatch:
    """Return the snippet around the first of the terms, with each of them that lies in it highlighted."""
    firsts = (
        [_spans_of_term(field.words, term, index)[0] for term, index in field.first_word_by_term.items()]
        if terms
        else []
    )
    start, end = _snippet_span(field.text, *min(firsts, default=(0, 0)))
    within = field.words.indexes_between(start, end)
    spans = {
        span
        for term in terms
        for index in field.words.find_all(term, *within)
        for span in _spans_of_term(field.words, term, index)
    }
    before, after = ELLIPSIS if start else "", ELLIPSIS if end < len(field.text) else ""
    return CaseMatch(
        field=field.name,
        snippet=f"{before}{field.text[start:end]}{after}",
        highlights=[
            [first - start + len(before), last - start + len(before)]
            for first, last in _merge_overlapping(spans)
            if start <= first and last <= end
        ],
    )


def _spans_of_term(words: LocatedWords, term: str, index: int) -> list[TextSpan]:
    """Return where the words of a term that is found at a word stand in the text."""
    return [words.span_in_text(index + place, len(word)) for place, word in enumerate(term.split())]


def _merge_overlapping(spans: Iterable[TextSpan]) -> list[TextSpan]:
    """Return the spans in order. Spans that overlap become one."""
    merged: list[TextSpan] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _snippet_span(text: str, first: int, last: int) -> TextSpan:
    """Return the part of a text to show around the span of a word; it is cut between words, if a space is near."""
    start = max(0, min(first - CHARACTERS_BEFORE_MATCH, len(text) - MAX_SNIPPET_LENGTH))
    end = min(len(text), start + MAX_SNIPPET_LENGTH)
    if start:
        start = _next_word_start(text, start, first)
    if end < len(text):
        end = _last_word_end(text, min(last, end), end)
    return start, end


def _next_word_start(text: str, start: int, match_start: int) -> int:
    """Return the start of the first word from `start` on, or `start` if that is far; at most `match_start`."""
    for place in range(start, min(match_start, start + MAX_CUT_WORD_LENGTH) + 1):
        if text[place - 1].isspace() and not text[place].isspace():
            return place
    while start < match_start and unicodedata.combining(text[start]):  # a mark belongs to the letter before it
        start += 1
    return start


def _last_word_end(text: str, match_end: int, end: int) -> int:
    """Return the end of the last word up to `end`, or `end` if that is far; at least `match_end`."""
    cut = next(
        (place for place in range(end, max(match_end, end - MAX_CUT_WORD_LENGTH) - 1, -1) if text[place].isspace()),
        None,
    )
    if cut is not None:
        return match_end + len(text[match_end:cut].rstrip())
    while end > match_end and unicodedata.combining(text[end]):
        end -= 1
    return end
