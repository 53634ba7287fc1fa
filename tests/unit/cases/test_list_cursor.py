"""Cursors of the case list."""

from contextlib import nullcontext, suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_service.cases.listing import case_sorts
from support_service.cases.listing.case_sorts import CasePlace
from support_service.core.errors import ValidationFailed
from tests.support.each import each_row

SORTS = ("newest", "updated", "waiting")
seqs = st.integers(0, 2**63 - 1)
times = st.datetimes(timezones=st.just(UTC))


def place(sort, seq, at):
    return CasePlace(seq) if sort == "newest" else CasePlace(seq, at)


@given(st.sampled_from(SORTS), seqs, times)
def test_cursor_leads_to_its_place(sort, seq, at):
    cursor = case_sorts.encode_cursor(sort, place(sort, seq, at))
    assert case_sorts.decode_cursor(sort, cursor) == place(sort, seq, at)


@each_row("sort", SORTS)
@each_row("other", SORTS)
def test_cursor_of_another_sort_is_refused(sort, other):
    """Without a cursor a list begins."""
    assert case_sorts.decode_cursor(sort, None) is None
    cursor = case_sorts.encode_cursor(sort, place(sort, 7, datetime(2026, 5, 12, tzinfo=UTC)))
    with nullcontext() if sort == other else pytest.raises(ValidationFailed):
        assert case_sorts.decode_cursor(other, cursor)


@given(
    st.sampled_from(SORTS),
    st.text(max_size=64) | st.from_regex("[A-Za-z0-9_-]{11}([A-Za-z0-9_-]{12})?", fullmatch=True),
)
def test_any_text_is_a_cursor_or_refused(sort, cursor):
    """No text fails in another way, such as a time beyond the year 9999."""
    with suppress(ValidationFailed):
        found = case_sorts.decode_cursor(sort, cursor)
        assert found
        assert found.seq >= 0
