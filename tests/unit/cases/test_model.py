"""Search words of a text, the fields of a change, and times."""

import unicodedata
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from support_service.cases.model.requests import CaseChange, CaseFilters, NewMessage
from support_service.core.search_words import MAX_SEARCH_TEXT_BYTES, MAX_SEARCH_WORD_LENGTH, search_words
from tests.support.each import each_row


@each_row(
    ("text", "words"),
    [
        ("Đơn hàng", ["don", "hang"]),
        ("ĐƠN HÀNG giao thiếu", ["don", "hang", "giao", "thieu"]),
        ("đường phố Nguyễn Huệ", ["duong", "pho", "nguyen", "hue"]),
        ("Parcel, late!", ["parcel", "late"]),
        ("ORD-1001/2026", ["ord", "1001", "2026"]),
        ("ᴺᴼᵀ ﬁne", ["not", "fine"]),
        ("snake_case", ["snake", "case"]),
        ("Straße", ["strasse"]),
        ("x" * 100, ["x" * MAX_SEARCH_WORD_LENGTH]),
        *((text, []) for text in ("", None, "?! — …")),
    ],
)
def test_search_words_are_lower_case_without_diacritics(text, words):
    """Punctuation is dropped, and a long word is cut."""
    assert search_words(text) == words


@given(st.text(), st.text())
def test_search_words_of_any_text_are_alphanumeric(one, two):
    """They never contain query syntax, and words of two texts are never joined."""
    words = search_words(one, two)
    assert all(word.isalnum() and len(word) <= MAX_SEARCH_WORD_LENGTH for word in words)
    assert search_words(one) + search_words(two) == words


def test_search_words_of_every_letter_are_folded_completely():
    """Folding a folded word changes nothing, and none has a letter with a lower case."""
    for letter in map(chr, range(0x110000)):
        if letter == unicodedata.normalize("NFKD", letter).casefold():
            continue
        words = search_words(letter)
        assert [search_words(word) for word in words] == [[word] for word in words], hex(ord(letter))
        assert [word.casefold() for word in words] == words, hex(ord(letter))


def test_long_run_of_combining_marks_is_never_normalized(monkeypatch):
    """Python sorts the marks one by one for seconds. Letters are expanded only as far as words are indexed."""
    seen, normalize = [], unicodedata.normalize
    monkeypatch.setattr(
        "support_service.core.search_words.unicodedata.normalize",
        lambda form, text: seen.append(text) or normalize(form, text),
    )
    assert search_words("nga" + "\u0301" * 32_000 + "\u0323" * 32_000 + "y ngày") == ["ngay", "ngay"]
    assert not any(map(unicodedata.combining, "".join(seen)))
    assert len("".join(search_words("\ufdfa" * 65_536))) < MAX_SEARCH_TEXT_BYTES


def test_change_has_only_the_sent_fields():
    """A field that was sent as null is part of the change."""
    change = CaseChange.model_validate({"description": None, "priority": "medium", "unknown": 1})
    assert change.sent_fields() == {"description": None, "priority": "normal"}


@each_row(
    ("text", "accepted"),
    [
        *((text, True) for text in ("2026-05-12T08:30:00Z", "2026-05-12t08:30:00z", "2026-05-12 08:30:00+07:00")),
        ("2026-05-12T08:30:00.123456789123Z", True),
        *((text, False) for text in ("2026-05-12T08:30:00", "2026-05-12T08:30Z", "2026-05-12T08:30:00+0700")),
        *((text, False) for text in ("20260512T083000Z", "\uff12\uff10\uff12\uff16-05-12T08:30:00Z")),
        *((text, False) for text in ("2026-02-30T08:30:00Z", "2026-05-12T24:00:00Z", "1778574600", 1_778_574_600)),
    ],
)
def test_a_time_is_read_alike_in_filters_and_in_messages(text, accepted):
    """One text of RFC 3339 is not refused in one place and accepted in another; neither is a text of another form."""
    sent = {"authorType": "agent", "message": "Hello", "sentAt": text}
    for model, fields in ((CaseFilters, {"updatedAfter": text}), (NewMessage, sent)):
        with nullcontext() if accepted else pytest.raises(ValidationError, match="RFC 3339"):
            model.model_validate(fields)
