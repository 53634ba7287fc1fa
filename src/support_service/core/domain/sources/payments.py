"""The payment service: what was paid for an order."""

from support_service.core.domain.source import Source

SOURCE = Source(
    service="payment",
    kind="payment",
    path="/payments",
    members={"orderId": "orderId", "status": "status", "amount": "amount"},
    amount_members=frozenset({"amount"}),
    variables=("status",),
    example={"id": "PAY-1001", "status": "captured", "amount": "12.50"},
    place=2,
)
