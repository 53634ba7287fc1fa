"""`sentAt`: the time at which another system says that something was written."""

from datetime import UTC, datetime, timedelta

from tests.support.calls import add_message, expect_json, expect_problem, open_case, read_case, read_detail
from tests.support.each import each_row

SENT = "2026-05-12T08:30:00.000000Z"
FIRST = {"authorType": "customer", "message": "first"}


def conversation(case):
    """Return the messages of a case's timeline as (timestamp, text)."""
    return [(each["timestamp"], each["message"]) for each in case["timeline"] if each["type"] == "conversation"]


async def test_timeline_shows_messages_when_they_were_sent(client):
    """`messages` stay in the order of arrival, and `createdAt` is the time of arrival."""
    case = await open_case(client, sentAt=SENT, initialMessage=FIRST)
    second = await add_message(client, case, "second")
    third = await add_message(client, case, "third", sentAt="2026-05-12T08:29:59.999Z")
    fourth = await add_message(client, case, "fourth", sentAt="2026-05-12T15:30:00.000001+07:00")
    detail = await read_detail(client, case)
    assert [each["message"] for each in detail["messages"]] == ["first", "second", "third", "fourth"]
    arrived = [each["createdAt"] for each in detail["messages"]]
    assert arrived == sorted(arrived)
    assert arrived[0] > SENT
    assert conversation(detail) == [
        ("2026-05-12T08:29:59.999000Z", "third"),
        (SENT, "first"),
        ("2026-05-12T08:30:00.000001Z", "fourth"),
        (second["createdAt"], "second"),
    ]
    assert detail["messages"][1:] == [second, third, fourth]


async def test_answers_to_writes_show_the_same_time(client):
    """Also in the timeline of an opened and of a closed case; the first message has the time of its case."""
    case = await open_case(client, sentAt=SENT, initialMessage=FIRST)
    assert (case["sentAt"], case["messages"][0]["sentAt"], conversation(case)) == (SENT, SENT, [(SENT, "first")])
    assert await read_case(client, case) == case | {"timeline": []}
    own = await open_case(client, sentAt=SENT, initialMessage=FIRST | {"sentAt": "2026-05-11T00:00:00Z"})
    assert conversation(own) == [("2026-05-11T00:00:00.000000Z", "first")]
    closed = await expect_json(client.post(f"/support/cases/{case['id']}/close", json={"message": "Bye"}))
    assert conversation(closed) == [(SENT, "first"), (closed["messages"][1]["createdAt"], "Bye")]
    assert closed["messages"][1]["sentAt"] is None


async def test_time_in_the_future_is_refused(client):
    """A clock may be up to five minutes ahead; beyond that the problem names the field, and nothing is added."""
    case = await open_case(client)
    soon, late = [(datetime.now(UTC) + timedelta(minutes=minutes)).isoformat() for minutes in (4, 6)]
    path = f"/support/cases/{case['id']}/messages"
    for url, sent, field in (
        ("/support/cases", {"subject": "A", "channel": "email", "sentAt": late}, "sentAt"),
        ("/support/cases", {"subject": "A", "channel": "email", "initialMessage": FIRST | {"sentAt": late}}, None),
        (path, FIRST | {"sentAt": late}, "sentAt"),
    ):
        problem = await expect_problem(client.post(url, json=sent), 422, "invalid_request")
        assert problem["errors"] == [
            {"field": field or "initialMessage.sentAt", "message": "must be at most five minutes in the future"}
        ]
    message = await add_message(client, case, sentAt=soon)
    assert datetime.fromisoformat(message["sentAt"]) == datetime.fromisoformat(soon)
    assert (await read_case(client, case))["messages"] == [message]


INVALID_TIME_IS_REFUSED = [
    *("", "yesterday", "2026-05-12", "2026-05-12T08:30:00", "2026-05-12T08:30Z", "2026-02-30T08:30:00Z"),
    *("2026-05-12T08:30:61Z", "0001-01-01T00:00:00+23:59", "\uff12\uff10\uff12\uff16-05-12T08:30:00Z"),
    *("2026-05-12T08:30:00Z\n", 1_778_574_600, True, [], "0001-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01"),
]


@each_row("value", INVALID_TIME_IS_REFUSED)
async def test_invalid_time_is_refused(client, value):
    """A time has a date, seconds and an offset (RFC 3339).

    One before 1970 is that of a clock that was never set. The first second of the year 1 would be lost on PostgreSQL.
    """
    sent = {"subject": "A", "channel": "email", "sentAt": value}
    problem = await expect_problem(client.post("/support/cases", json=sent), 422, "invalid_request")
    (error,) = problem["errors"]
    is_early = value in INVALID_TIME_IS_REFUSED[-2:]
    assert error["field"] == "sentAt"
    assert ("must not be before 1970" if is_early else "RFC 3339") in error["message"]


TIME_IS_STORED_IN_UTC = [
    ("2026-05-12t08:30:00z", SENT),
    ("2026-05-12 08:30:00-00:00", SENT),
    ("2026-05-12T00:30:00.123456789-08:00", "2026-05-12T08:30:00.123456Z"),
    ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
]


@each_row("value, stored", TIME_IS_STORED_IN_UTC)
async def test_time_is_stored_in_utc(client, value, stored):
    """With microseconds, in every answer."""
    case = await open_case(client, sentAt=value)
    assert case["sentAt"] == stored
    assert await read_case(client, case) == case | {"timeline": []}
