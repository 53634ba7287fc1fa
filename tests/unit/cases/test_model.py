"""The words of a search, and what a change holds."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_service.cases.requests import CaseChange
from support_service.cases.search import MAX_SEARCH_TEXT_BYTES, MAX_SEARCH_WORD_LENGTH, search_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Đơn hàng", ["don", "hang"]),
        ("ĐƠN HÀNG giao thiếu", ["don", "hang", "giao", "thieu"]),
        ("đường phố Nguyễn Huệ", ["duong", "pho", "nguyen", "hue"]),
        ("Parcel, late!", ["parcel", "late"]),
        ("ORD-1001/2026", ["ord", "1001", "2026"]),
        ("snake_case", ["snake", "case"]),
        ("Straße", ["strasse"]),
        ("x" * 100, ["x" * MAX_SEARCH_WORD_LENGTH]),
        ("", []),
        (None, []),
        ("?! — …", []),
    ],
)
def test_words(text, words):
    """Words are lower case and without diacritics; signs are none."""
    assert search_words(text) == words


@given(st.text(), st.text())
def test_words_of_any_text(one, two):
    """Whatever the texts, their words are each text's own, and hold no sign that a query could stumble on."""
    words = search_words(one, two)
    assert all(word.isalnum() and len(word) <= MAX_SEARCH_WORD_LENGTH for word in words)
    assert search_words(one) + search_words(two) == words


def test_a_run_of_marks_is_never_sorted(monkeypatch):
    """Python sorts marks one by one, for seconds where there are many: none comes so far, and words stay the same."""
    seen, normalize = [], unicodedata.normalize
    monkeypatch.setattr(
        "support_service.cases.search.unicodedata.normalize",
        lambda form, text: seen.append(text) or normalize(form, text),
    )
    assert search_words("nga" + "\u0301" * 32_000 + "\u0323" * 32_000 + "y ngày") == ["ngay", "ngay"]
    assert not any(map(unicodedata.combining, "".join(seen)))


def test_what_no_search_finds_is_not_folded():
    """Signs that stand for many letters each are taken apart as far as their words are kept."""
    assert len("".join(search_words("\ufdfa" * 65_536))) < MAX_SEARCH_TEXT_BYTES


def test_a_change_holds_what_was_sent():
    """A field that was not sent is not in a change; one that was sent as null is."""
    change = CaseChange.model_validate({"description": None, "priority": "medium", "unknown": 1})
    assert change.given() == {"description": None, "priority": "normal"}
