"""What becomes of the name and the type that a client gives its file."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_service.attachments.model import MAX_FILENAME_BYTES, UNKNOWN_TYPE, clean_content_type, clean_filename

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=600)  # surrogates too


@given(ANY_TEXT)
def test_any_filename_becomes_a_safe_one(raw):
    """Whatever is sent, the name is one that can be shown, saved and put into a header: no path, 255 bytes at most."""
    name = clean_filename(raw)
    assert 0 < len(name.encode()) <= MAX_FILENAME_BYTES
    assert name.isprintable()
    assert not set(name) & {"/", "\\", "\0"}
    assert name.strip(". ")
    assert clean_filename(name) == name
    assert unicodedata.is_normalized("NFC", name)


@pytest.mark.parametrize("invisible", ["\u200b", "\u202e", "\x01"])
def test_letters_that_invisible_characters_part_are_composed(invisible):
    """A letter and its mark become one character, also if an invisible character was between them."""
    assert clean_filename(f"e{invisible}\u0301.txt") == "\u00e9.txt"


@given(ANY_TEXT)
def test_any_content_type_becomes_one(raw):
    """Whatever is sent, the type is one that fits into a header and its column."""
    assert "/" in clean_content_type(raw)
    assert len(clean_content_type(raw)) <= 255
    assert clean_content_type(raw).isascii()


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("text/plain", "text/plain"),
        ("Text/PLAIN; charset=utf-8", "text/plain"),
        ("application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("image/svg+xml", "image/svg+xml"),
        (None, UNKNOWN_TYPE),
        ("", UNKNOWN_TYPE),
        ("text", UNKNOWN_TYPE),
        ("text/", UNKNOWN_TYPE),
        ("text/a b", UNKNOWN_TYPE),
        ("text/plain\r\nX-Evil: 1", UNKNOWN_TYPE),
        ("x" * 64 + "/y", UNKNOWN_TYPE),
    ],
)
def test_content_types(raw, kept):
    """A type is kept without its parameters; what is none counts as unknown bytes."""
    assert clean_content_type(raw) == kept


@pytest.mark.parametrize(
    ("raw", "kept"), [("%C4%91.pdf", "\u0111.pdf"), ("%ff.pdf", "%ff.pdf"), ("100%25.pdf", "100%25.pdf")]
)
def test_a_percent_encoded_name_is_decoded_where_it_was_encoded(raw, kept):
    """Letters beyond ASCII are decoded; what is no UTF-8, and a percent sign of the name itself, stays."""
    assert clean_filename(raw) == kept
