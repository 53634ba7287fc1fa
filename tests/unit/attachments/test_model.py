"""What becomes of the name and the type that a client gives its file."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from support_service.cases.model.files import (
    MAX_FILENAME_BYTES,
    UNKNOWN_CONTENT_TYPE,
    clean_content_type,
    clean_filename,
)
from tests.support.each import each_row

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=600)  # surrogates too


@given(ANY_TEXT)
def test_any_filename_is_made_safe(raw):
    """The result can be shown, saved and sent in a header: no path, at most 255 bytes."""
    name = clean_filename(raw)
    assert 0 < len(name.encode()) <= MAX_FILENAME_BYTES
    assert name.isprintable()
    assert not set(name) & {"/", "\\", "\0"}
    assert name.strip(". ")
    assert clean_filename(name) == name
    assert unicodedata.is_normalized("NFC", name)


def test_letter_and_combining_mark_are_composed():
    """Also with an invisible character between them."""
    for invisible in ("\u200b", "\u202e", "\x01"):
        assert clean_filename(f"e{invisible}\u0301.txt") == "\u00e9.txt"


@given(ANY_TEXT)
def test_any_content_type_is_made_valid(raw):
    assert "/" in clean_content_type(raw)
    assert len(clean_content_type(raw)) <= 255
    assert clean_content_type(raw).isascii()


@each_row(
    ("raw", "kept"),
    [
        ("text/plain", "text/plain"),
        ("Text/PLAIN; charset=utf-8", "text/plain"),
        ("application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("image/svg+xml", "image/svg+xml"),
        *((raw, UNKNOWN_CONTENT_TYPE) for raw in (None, "", "text", "text/", "text/a b", "x" * 64 + "/y")),
        ("text/plain\r\nX-Evil: 1", UNKNOWN_CONTENT_TYPE),
    ],
)
def test_content_type_is_stored_without_parameters(raw, kept):
    assert clean_content_type(raw) == kept


def test_percent_encoded_filename_is_decoded_once():
    """Invalid UTF-8, and percent signs of the name itself, stay."""
    for raw, kept in (("%C4%91.pdf", "\u0111.pdf"), ("%ff.pdf", "%ff.pdf"), ("100%25.pdf", "100%25.pdf")):
        assert clean_filename(raw) == kept
