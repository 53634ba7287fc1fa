"""Where a case matches a search: the field, the snippet and the highlights."""

import unicodedata

from hypothesis import assume, given
from hypothesis import strategies as st

from support_service.cases.listing.snippets import (
    MAX_MESSAGE_LENGTH,
    MAX_SNIPPET_LENGTH,
    find_match,
    match_of,
    one_line_excerpt,
)
from support_service.cases.model.case import CaseSummary
from support_service.core.search_words import (
    LocatedWords,
    padded_terms,
    parse_search_query,
    parse_sought_ids,
    search_words,
)
from tests.support.each import each_row

# Letters that become several, or none, or words of their own when they are folded.
UNUSUAL = "aáđĐﬁßİ½ﷺǆ가é日本😀\U0001d400\u0301\u0323_-.'"
PLAIN = "abcốđĐếứ"


def texts(alphabet):
    return st.lists(st.text(alphabet, min_size=1, max_size=12), max_size=60).map(" ".join)


def case(**fields):
    empty = {"id": "", "subject": "", "description": None, "customer_id": None, "external_id": None}
    return CaseSummary.model_construct(**empty | {"tags": [], "context": []} | fields)


def found_match(q, message=None, **fields):
    return find_match(padded_terms(parse_search_query(q)), case(**fields), message)


def highlighted(match):
    return [match.snippet[start:end] for start, end in match.highlights]


def decomposed(text):
    return unicodedata.normalize("NFD", text)


@given(st.one_of(st.text(), texts(UNUSUAL)))
def test_each_word_is_in_its_place(text):
    words = LocatedWords(text)
    assert words.words == search_words(text)
    for index, word in enumerate(words.words):
        start, end = words.span_in_text(index, len(word))
        assert 0 <= start < end <= len(text)
        assert any(each.startswith(word) for each in search_words(text[start:end]))


@given(texts(UNUSUAL), st.data())
def test_highlights_lie_in_the_snippet_and_fold_to_words_of_the_query(text, data):
    """The snippet is a part of the text, and highlights neither overlap nor are empty."""
    words = search_words(text)
    assume(words)
    terms = data.draw(st.lists(st.sampled_from(words), min_size=1, max_size=3))
    terms[-1] = terms[-1][: data.draw(st.integers(1, len(terms[-1])))]
    query = " AND ".join(f'"{term}"' for term in terms) + "*"
    match = find_match(padded_terms(query), case(description=text), None)
    assert match.field == "description"
    assert match.snippet.removeprefix("…").removesuffix("…") in text
    assert len(match.snippet) <= MAX_SNIPPET_LENGTH + 2
    assert match.highlights
    before = 0
    for (start, end), part in zip(match.highlights, highlighted(match), strict=True):
        assert before <= start < end <= len(match.snippet)
        assert any(word.startswith(term) for word in search_words(part) for term in terms)
        before = end


@given(texts(PLAIN), st.data())
def test_each_occurrence_of_a_word_in_the_snippet_is_highlighted(text, data):
    words = search_words(text)
    assume(words)
    word = data.draw(st.sampled_from(words))
    match = find_match(padded_terms(f'"{word}"'), case(description=text), None)
    assert [search_words(part) for part in highlighted(match)] == [[word]] * search_words(match.snippet).count(word)


@given(texts(PLAIN))
def test_snippet_has_whole_words(text):
    words = text.split()
    assume(words)
    match = found_match(f'"{words[-1]}"', description=text)
    assert set(match.snippet.strip("…").split()) <= set(words)


@each_row(
    ("q", "text", "parts"),
    [
        ("vet nut", "Màn hình có vết nứt", ["vết", "nứt"]),
        ("vet nut", decomposed("có vết nứt."), [decomposed("vết"), decomposed("nứt")]),
        ('"vet nut"', "vết xước, vết nứt", ["vết", "nứt"]),
        ("DON hang", "Đơn hàng đến", ["Đơn", "hàng"]),
        ("parc", "Parcels", ["Parc"]),
        ("parc parcels", "Parcels parc", ["Parcels", "parc"]),
        ("find", "We ﬁnd it", ["ﬁnd"]),
        ("f", "We ﬁnd it", ["ﬁ"]),
        ("strasse", "Die Straße", ["Straße"]),
        ("2 cups", "1½ cups", ["½", "cups"]),
        ("caf", "cafe\u0301", ["caf"]),
        ("cafe", "cafe\u0301s", ["cafe\u0301"]),
        ("order 4711", "😀 order 4711", ["order", "4711"]),
        ("x" * 70, "x" * 80, ["x" * 64]),
    ],
)  # fmt: skip
def test_words_are_highlighted_as_they_were_written(q, text, parts):
    match = found_match(q, description=text)
    assert (match.snippet, highlighted(match)) == (text, parts)


def test_long_text_is_cut_between_words():
    text = f"{'before ' * 100}the parcel{' after' * 100}"
    match = found_match("parcel", description=text)
    assert match.snippet.startswith("…before before ")
    assert match.snippet.endswith(" after after…")
    assert highlighted(match) == ["parcel"]
    assert 140 < len(match.snippet) <= 162
    unbroken = found_match("ab", description=f"{'日' * 500} ab {'日' * 500}")
    assert 150 < len(unbroken.snippet) <= 162
    assert highlighted(unbroken) == ["ab"]
    assert found_match('"a"', description="a" + "\u0301" * 500).highlights == []


@each_row(
    ("q", "field", "snippet"),
    [
        ("parcel", "subject", "Late parcel"),
        ("parcel stuck", "description", "The parcel is stuck"),
        ("late stuck", "subject", "Late parcel"),
        ("cus", "customerId", "CUS-42"),
        ("vip", "tags", "delivery, vip"),
    ],
)
def test_field_is_the_one_with_the_most_words(q, field, snippet):
    match = found_match(
        q, subject="Late parcel", description="The parcel is stuck", customer_id="CUS-42", tags=["delivery", "vip"]
    )
    assert (match.field, match.snippet) == (field, snippet)


def test_words_beyond_the_beginning_of_a_message_have_no_place():
    """The snippet is the beginning. Nor have words that are in two fields, or in another message."""
    match = found_match("parcel", "so " * MAX_MESSAGE_LENGTH)
    assert (match.field, match.highlights) == ("message", [])
    assert match.snippet.startswith("so so ")
    assert found_match('"late parcel"', subject="It is late", description="Parcel gone") is None
    assert found_match("parcel", "Another message") is None


def test_match_in_a_message_names_it():
    """The message comes with its id; a case that contains the words itself has none."""
    query = parse_search_query("parcel")
    match = match_of(query, None, case(subject="Other"), "message-1 my parcel")
    assert (match.field, match.message_id) == ("message", "message-1")
    assert (match.snippet, match.highlights) == ("my parcel", [[3, 9]])
    match = match_of(query, None, case(subject="Parcel"), None)
    assert (match.field, match.message_id, match.highlights) == ("subject", None, [[0, 6]])
    assert match_of(query, None, case(subject="None"), "message-1 nothing") is None


NAMED = {
    "id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "external_id": "<5e1f@mail.test>",
    "context": [{"type": "order", "orderId": "ORD-7"}, {"type": "shipment", "id": 4711, "trackingNumber": "ZX1"}],
}


@each_row(
    ("q", "field", "snippet", "length"),
    [
        ("3fa85f", "id", NAMED["id"], 6),
        (f" {NAMED['id'].upper()} ", "id", NAMED["id"], 36),
        ('"<5e1f@mail.test>"', "externalId", NAMED["external_id"], 16),
        ("ord-7", "orderId", "ORD-7", 5),
        ("#4711", "shipmentId", "4711", 4),
        ("zx1", "trackingNumber", "ZX1", 3),
    ],
)
def test_match_of_an_id_names_it(q, field, snippet, length):
    """Whole, or of an id of a case its beginning; small letters stand for capitals."""
    match = match_of(parse_search_query(q), parse_sought_ids(q), case(**NAMED), None)
    assert (match.field, match.snippet, match.highlights) == (field, snippet, [[0, length]])


@each_row("q", ["", "parcel", "3fa8", "late 3fa85f64", "ord-", "3fa85f64\x00", "-123456x"])
def test_words_are_no_ids(q):
    """An id is one text with a digit, or the beginning of an id of a case."""
    sought = parse_sought_ids(q)
    assert sought is None or sought.prefix is None


@each_row(
    ("message", "line"),
    [
        ("Where\tis\r\n\r\n it?", "Where is it?"),
        ("Yes.\n\nOn 12 May 2026, Lan wrote:\n> Did it come?\n>\n> Lan", "Yes."),
        ("> Did it come?\nYes.\n> When?\nToday.", "Yes. Today."),
        ("My answer:\n> When?\nToday.", "My answer: Today."),
        *((f"Yes.\n{end}", "Yes.") for end in ("-- \nAnna Berger\nVienna", "-----Original Message-----\nFrom: Lan")),
        ("Yes.\n________________________________\nFrom: Lan", "Yes."),
        *((message, message) for message in ("It is -- I hope -- lost", "> Did it come?", "")),
        ("-- \nAnna", "-- Anna"),
    ],
)
def test_line_of_a_message_has_its_own_words(message, line):
    """Neither quotations nor the signature, unless there is nothing else."""
    assert one_line_excerpt(message) == line


@given(texts(UNUSUAL + PLAIN + "\n>:"))
def test_line_of_a_message_is_bounded_and_settled(message):
    """It is one line, no longer than a snippet, and stays as it is if it is shortened again."""
    line = one_line_excerpt(message)
    assert len(line) <= MAX_SNIPPET_LENGTH
    assert len(line.splitlines()) <= 1
    assert line == " ".join(line.split())
    assert one_line_excerpt(line) == line
