"""What an analyst sees of a case."""

from support_service.cases.masking import MASKED, PSEUDONYM_LENGTH, CaseMasker


def test_an_id_in_an_entry_becomes_a_pseudonym():
    """The same id has the same pseudonym under one key, as a text and as a number; other values are masked."""
    text, number, other = CaseMasker(b"key")._entries(
        [{"type": "order", "orderId": "7"}, {"type": "order", "orderId": 7}, {"type": "order", "orderId": ["7"]}]
    )
    assert text == number == {"type": "order", "orderId": CaseMasker(b"key").pseudonym("7")}
    assert len(text["orderId"]) == PSEUDONYM_LENGTH
    assert text["orderId"] != CaseMasker(b"another").pseudonym("7")
    assert other["orderId"] == MASKED
