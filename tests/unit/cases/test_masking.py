"""Masking: what an analyst sees of a case."""

import pytest

from support_service.cases.masking import IDENTIFYING_MEMBERS, MASKED_TEXT, PSEUDONYM_LENGTH, VISIBLE_MEMBERS, Masker
from support_service.cases.model.case import Message
from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import SOURCES
from support_service.timeline.source_calls import calls_for
from tests.support.each import each_row


def test_id_in_an_entry_becomes_a_pseudonym():
    """The same id has the same pseudonym under one key, as a text and as a number; other values are masked."""
    text, number, other = Masker("key", ()).mask_entries(
        [{"type": "order", "orderId": "7"}, {"type": "order", "orderId": 7}, {"type": "order", "orderId": ["7"]}]
    )
    assert text == number == {"type": "order", "orderId": Masker("key", ()).pseudonym_of("7")}
    assert len(text["orderId"]) == PSEUDONYM_LENGTH
    assert text["orderId"] != Masker("another", ()).pseudonym_of("7")
    assert other["orderId"] == MASKED_TEXT
    for kind in (["order"], {"a": 1}, 7, None, True):  # clients choose what a context has
        (masked,) = Masker("key", ()).mask_entries([{"type": kind, "orderId": "7"}])
        assert masked == text | {"type": kind and MASKED_TEXT}


@pytest.mark.parametrize("source", SOURCES.values())
def test_analyst_sees_amounts_and_no_personal_members_of_a_source(source):
    """A source declares the types of its entries, and each member as an amount or as personal.

    Values that look like amounts stay. Personal members are masked and keep their names.
    """
    reader, *more = [call.parse for call in calls_for(source, SourceReferences(("1",)))]
    entries = [*reader({"id": "1"}), *(entry for read in more for entry in read([{}]))]
    assert tuple(entry["type"] for entry in entries) == source.entry_types
    members = {name for entry in entries for name in entry}
    assert members - VISIBLE_MEMBERS.keys() - IDENTIFYING_MEMBERS == source.amount_members | source.personal
    known = {"type": source.kind} | dict.fromkeys(source.amount_members, "12.50")
    (masked,) = Masker("key", ()).mask_entries([known | dict.fromkeys(source.personal, "12.50") | {"nickname": "a"}])
    assert masked == known | dict.fromkeys(source.personal, MASKED_TEXT) | {MASKED_TEXT: MASKED_TEXT}


@each_row(
    ("amount", "shown"),
    [
        *((amount, amount) for amount in (12.5, -7, "99999999.9999", 10**8 - 1)),
        (0.4111111111111111, 0.4111),
        *((amount, ">= 100000000") for amount in (10**8, "411111111", 1e21)),
        *((amount, "<= -100000000") for amount in (-4111111111111111.5, "-411111111.5")),
        pytest.param(10**400, ">= 100000000", id="more than a float holds"),
        pytest.param(-(10**400), "<= -100000000", id="less than a float holds"),
        *((amount, MASKED_TEXT) for amount in ("0411111111", "1.41111", float("nan"), [1])),
    ],
)
def test_analyst_sees_amounts_of_eight_digits_and_bounds_of_larger_ones(amount, shown):
    """A longer number may be that of a card, an account or a telephone."""
    (masked,) = Masker("key", ()).mask_entries([{"type": "payment", "amount": amount}])
    assert masked["amount"] == shown


@pytest.mark.parametrize(("sentiment", "shown"), [("negative", True), ("Anna", False), (None, True)])
def test_analyst_sees_known_sentiments_only(sentiment, shown):
    """A sentiment is a text of the client, also if it is one word."""
    masker = Masker("key", ())
    texts = {"message": "Hello", "attachment_uri": None, "metadata": None}
    message = Message.model_construct(author_type="customer", author_id=None, sentiment=sentiment, **texts)
    assert masker.mask(message).sentiment == (sentiment if shown else "other")
    (entry,) = masker.mask_message_entries([{"type": "conversation", "sentiment": sentiment}])
    assert entry["sentiment"] == (sentiment if shown else MASKED_TEXT)
