"""What customers of the demo ask, and what agents answer: scenarios, each used for several customers and orders."""

from typing import NamedTuple


class Line(NamedTuple):
    """A message: its author (an internal note is by `note`), its text, and the minutes since the one before."""

    author: str
    text: str
    minutes: int = 0


class Scenario(NamedTuple):
    """A conversation; `{order}` and `{product}` are replaced."""

    subject: str
    team: str
    tags: tuple[str, ...]
    lines: tuple[Line, ...]
    channel: str = "email"
    priority: str = "normal"


PRODUCTS = ("rice cooker", "desk lamp", "running shoes", "coffee grinder", "rain jacket", "headphones", "office chair")
TEAMS = ("deliveries", "payments", "returns")
SCENARIOS = (
    Scenario(
        "Where is order {order}?",
        "deliveries",
        ("delivery",),
        (
            Line(
                "customer",
                "Hello, the tracking page of {order} has not changed since Monday. When will my {product} come?",
            ),
            Line("note", "Carrier portal: the parcel is in the hub in Da Nang, no scan for two days.", 35),
            Line(
                "agent",
                "Thank you for writing. The parcel is in the carrier's hub. The carrier looks for it.",
                9,
            ),
            Line("customer", "Thanks. I need it by Friday, is that realistic?", 210),
        ),
    ),
    Scenario(
        "Charged twice for {order}",
        "payments",
        ("payment", "refund"),
        (
            Line("customer", "My bank shows two charges for {order}. I ordered one {product}, not two!"),
            Line("agent", "We see one captured payment and one hold. The hold falls away within three days.", 22),
            Line("customer", "It is still there after four days.", 5900),
        ),
        "chat",
        "high",
    ),
    Scenario(
        "Đơn {order} giao thiếu một món",
        "deliveries",
        ("delivery", "vi"),
        (
            Line("customer", "Chào shop, tôi nhận được hai trong ba món của đơn {order}. Thiếu món {product}."),
            Line("agent", "Chào anh/chị, kho đã gửi món còn thiếu sáng nay. Xin lỗi vì sự bất tiện này.", 41),
            Line("customer", "Cảm ơn shop, tôi sẽ đợi.", 15),
        ),
        "chat",
    ),
    Scenario(
        "{product} arrived broken",
        "returns",
        ("return", "damaged"),
        (
            Line("customer", "The {product} of {order} came with a crack along one side. The box was wet. What now?"),
            Line(
                "agent",
                "We are sorry. Please keep the box and send us two photos, then we send a replacement at once.",
                18,
            ),
            Line("customer", "Photos are attached. The second one shows the box.", 75),
            Line("note", "Third wet box from the same depot this week: tell the warehouse.", 4),
        ),
        "web",
        "high",
    ),
    Scenario(
        "Change of address for {order}",
        "deliveries",
        ("address",),
        (
            Line("customer", "I moved last week. Can {order} go to my new address, 12 Tran Phu, Hue?"),
            Line("agent", "We changed it before the parcel left. You get a new confirmation in a moment.", 12),
            Line("customer", "Perfect, thank you!", 8),
        ),
        "web",
    ),
    Scenario(
        "Refund for a return of {order}",
        "returns",
        ("refund", "return"),
        (
            Line("customer", "I sent the {product} back eight days ago. When do I get my money for {order}?"),
            Line("note", "The return was scanned yesterday, the refund is not started. Payments, please check.", 50),
        ),
        priority="high",
    ),
    Scenario(
        "Invoice for {order}",
        "payments",
        ("invoice",),
        (
            Line("customer", "Please send me an invoice for {order} with our VAT number VN0312345678."),
            Line("agent", "The invoice is on its way to this address. Is there anything else?", 95),
            Line("customer", "No, all good.", 240),
        ),
    ),
    Scenario(
        "Voucher is not accepted",
        "payments",
        ("voucher",),
        (
            Line(
                "customer",
                "The voucher from your newsletter says “not valid” at the checkout. It ends tonight, please help.",
            ),
        ),
        "chat",
        "urgent",
    ),
    Scenario(
        "Tôi muốn đổi cỡ cho đơn {order}",
        "returns",
        ("exchange", "vi"),
        (
            Line("customer", "Tôi đặt {product} cỡ M nhưng hơi chật. Tôi đổi sang cỡ L được không?"),
            Line("agent", "Được ạ. Anh/chị gửi lại trong 14 ngày, chúng tôi gửi cỡ L ngay khi nhận được hàng.", 33),
        ),
        "mobile",
    ),
    Scenario(
        "Parcel says delivered, but nothing is here",
        "deliveries",
        ("delivery", "lost"),
        (
            Line(
                "customer", "The app says {order} was delivered at 14:10. I was at home the whole day and nobody came!"
            ),
            Line("agent", "The driver names a neighbour, Mr. Binh. Could you ask there?", 28),
            Line("customer", "There is no Mr. Binh in this house.", 47),
            Line("note", "Signature does not match. Opened an inquiry with the carrier, 48 h.", 6),
            Line("agent", "We have opened an inquiry with the carrier. You hear from us within 48 hours.", 2),
            Line("customer", "Any news? The 48 hours are over.", 3000),
        ),
        "phone",
        "urgent",
    ),
    Scenario(
        "Wrong colour in {order}",
        "returns",
        ("exchange",),
        (
            Line("customer", "I ordered the {product} in blue and got green. Order {order}."),
            Line("agent", "That was our mistake. A blue one leaves today; the courier takes the green one back.", 16),
            Line("customer", "Great service!", 1500),
        ),
        "social",
        "low",
    ),
    Scenario(
        "How long is the warranty?",
        "returns",
        ("question",),
        (
            Line("customer", "Hi! How long is the warranty, and do I need the receipt? It was {order}."),
            Line("agent", "Two years, and your order number is enough.", 140),
        ),
        "web",
        "low",
    ),
)
