"""The merge, whatever JSON came in."""

from collections import Counter
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_service.timeline import merge
from support_service.timeline.sources import fulfillment, orders, payments
from support_service.timeline.sources.base import ContractViolation, page_reader

OPENED = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ("context", "service", "message", "attachment")
READERS = (orders.read_order, orders.read_events, payments.read_payment, fulfillment.read_shipment)

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
times = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))  # noqa: DTZ001 - the offset varies
texts_of_time = times.map(datetime.isoformat) | times.map(lambda at: f"{at.isoformat()}+07:00")
odd_texts_of_time = st.sampled_from(
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999999-23:59",
        "9999-12-31T23:59:59.999999Z",
        "2026-W01-1",
        "20260101T000000,5+0000",
        "2026-01-01 00:00:00+00:00:00.000001",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "\uff12\uff10\uff12\uff16-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\x00",
        "\ud800",
    ]
)
timestamps = texts_of_time | odd_texts_of_time | json
contexts = st.lists(
    st.dictionaries(st.text(), json, max_size=3)
    | st.fixed_dictionaries({"type": json, "timestamp": timestamps}, optional={"orderId": json})
)
answers = json | st.fixed_dictionaries(
    {"id": json, "createdAt": timestamps, "updatedAt": timestamps}, optional={"status": json, "items": json}
)


def utc(at):
    """A moment as readers write it."""
    return merge.format_time(at.replace(tzinfo=UTC))


collected = st.lists(st.fixed_dictionaries({"type": st.text(min_size=1), "timestamp": st.none() | times.map(utc)}))
moments = st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is given


def said(at, message="Hello"):
    """A message."""
    return SimpleNamespace(
        author_type="agent",
        message=message,
        attachment_uri=None,
        sentiment=None,
        metadata=None,
        visibility="internal",
        created_at=at,
    )


def filed(at, filename="a.txt"):
    """An attachment."""
    return SimpleNamespace(filename=filename, uri=f"/{filename}", visibility="public", created_at=at)


def moment(entry):
    """When an entry was, however its time is written."""
    at = datetime.fromisoformat(entry["timestamp"])
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@given(contexts, collected, st.lists(moments), st.lists(moments))
def test_merge_sorts_and_loses_nothing(context, known, messages, attachments):
    """Every entry is in the merge once, with a type and a time, and times never go back."""
    merged = merge.merge_entries(OPENED, context, known, map(said, messages), map(filed, attachments))
    assert len(merged) == len(context) + len(known) + len(messages) + len(attachments)
    assert all(isinstance(entry["type"], str) and isinstance(entry["timestamp"], str) for entry in merged)
    assert [moment(entry) for entry in merged] == sorted(map(moment, merged))


@given(st.lists(st.sampled_from([OPENED, OPENED + timedelta(hours=1)]), max_size=20))
def test_merge_is_stable(moments_):
    """Entries of one moment keep the order in which they were given."""
    messages = [said(at, str(number)) for number, at in enumerate(moments_)]
    merged = merge.merge_entries(OPENED, [], [], messages, [])
    expected = [str(number) for number, _ in sorted(enumerate(moments_), key=lambda pair: pair[1])]
    assert [entry["message"] for entry in merged] == expected


@given(contexts)
def test_a_context_entry_is_given_as_it_came(context):
    """Nothing of a context entry is changed but a type or a time that is none."""
    merged = merge.merge_entries(OPENED, context, [], [], [])
    for entry in context:
        kept = {name: value for name, value in entry.items() if name not in ("type", "timestamp")}
        assert any(kept.items() <= {**other}.items() if not kept else _holds(other, kept) for other in merged)


def _holds(entry, wanted):
    return all(name in entry and entry[name] == value for name, value in wanted.items())


@given(answers)
def test_readers_never_raise_but_off_contract(answer):
    """Whatever JSON a service answers, a reader gives entries with a type, or says that it is off the contract."""
    for read in (*READERS, *map(page_reader, READERS)):
        try:
            entries = read(answer)
        except ContractViolation:
            continue
        merged = merge.merge_entries(OPENED, [], entries, [], [])
        assert len(merged) == len(entries)
        assert all(entry["type"] for entry in merged)


ways = st.sampled_from(KINDS)


@given(st.lists(st.tuples(ways, st.sampled_from([OPENED, OPENED + timedelta(hours=1)])), max_size=20))
def test_entries_of_one_moment_keep_their_kinds_order(given_):
    """Of one moment come the context, then what services know, messages and attachments, each as they were given."""
    numbered = {way: [(number, at) for number, (kind, at) in enumerate(given_) if kind == way] for way in KINDS}
    merged = merge.merge_entries(
        OPENED,
        [
            {"type": "note", "timestamp": merge.format_time(at), "number": str(number)}
            for number, at in numbered["context"]
        ],
        [
            {"type": "order", "timestamp": merge.format_time(at), "number": str(number)}
            for number, at in numbered["service"]
        ],
        [said(at, str(number)) for number, at in numbered["message"]],
        [filed(at, str(number)) for number, at in numbered["attachment"]],
    )
    expected = sorted(((at, KINDS.index(way), number) for way in KINDS for number, at in numbered[way]))
    numbers = [int(entry.get("number") or entry.get("message") or entry["filename"]) for entry in merged]
    assert numbers == [number for *_, number in expected]


@given(contexts, collected, st.lists(moments, max_size=5), st.data())
def test_merge_depends_on_no_order_but_for_ties(context, known, messages, data):
    """However the entries are shuffled, the same ones come out at the same moments."""
    once = merge.merge_entries(OPENED, context, known, map(said, messages), [])
    shuffled = [data.draw(st.permutations(entries)) for entries in (context, known, messages)]
    again = merge.merge_entries(OPENED, shuffled[0], shuffled[1], map(said, shuffled[2]), [])
    assert _multiset(again) == _multiset(once)
    assert list(map(moment, again)) == list(map(moment, once))


@given(contexts, collected)
def test_merge_leaves_what_it_was_given(context, known):
    """Neither the context nor the snapshots, which are read again, are changed."""
    before = deepcopy((context, known))
    merge.merge_entries(OPENED, context, known, [], [])
    assert (context, known) == before


@given(collected)
def test_each_service_entry_is_there_once(known):
    """What a service gave is in the merge as it is, as often as it was given, with a time where it had none."""
    opening = merge.format_time(OPENED)
    expected = [entry | {"timestamp": entry["timestamp"] or opening} for entry in known]
    assert _multiset(merge.merge_entries(OPENED, [], known, [], [])) == _multiset(expected)


def _multiset(entries):
    return Counter(map(repr, entries))


wild_numbers = st.sampled_from(
    ["1e400", "-1e400", "-0.0", "1E-400", "9" * 400, "0.1" + "0" * 400 + "1", "NaN", "Infinity"]
)
wild_texts = st.sampled_from(
    [r'"\ud800"', r'"\u0000"', '"\u202e"', '"2026-01-01T00:00:00Z"', '"x"', "null", "true", "[]", "{}"]
)
names = st.sampled_from(["id", "orderId", "status", "createdAt", "updatedAt", "items", "type", "payload", "amount"])


def _object_of(fields):
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"


bodies = st.recursive(
    wild_numbers | wild_texts,
    lambda inner: (
        st.lists(st.tuples(names, inner), max_size=5).map(_object_of)  # names may come twice
        | st.lists(inner, max_size=4).map(lambda values: f"[{','.join(values)}]")
    ),
    max_leaves=12,
)


@given(st.binary() | st.text().map(lambda text: text.encode(errors="replace")) | bodies.map(str.encode))
def test_whatever_bytes_a_service_sends(body):
    """Bytes that are no JSON, or JSON of any shape, become entries that can be merged and sent on, or a ValueError."""
    for read in (*READERS, *map(page_reader, READERS)):
        try:
            entries = read(pydantic_core.from_json(body, allow_inf_nan=False))
        except ValueError:
            continue
        merged = merge.merge_entries(OPENED, [], entries, [], [])
        assert len(merged) == len(entries)
        sent = pydantic_core.from_json(pydantic_core.to_json(merged, inf_nan_mode="null"))
        assert [entry["timestamp"] for entry in sent] == sorted(entry["timestamp"] for entry in sent)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("2026-01-01T07:00:00+07:00", "2026-01-01T00:00:00.000000Z"),
        ("2026-01-01T00:00:00", "2026-01-01T00:00:00.000000Z"),
        ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500000Z"),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (1_767_225_600, None),
        (None, None),
    ],
)
def test_times_are_normalised(given_, expected):
    """A time with an offset, or without one, becomes UTC to the microsecond; what is no time becomes none."""
    assert orders.read_order({"id": "ORD-1", "createdAt": given_})[0]["timestamp"] == expected


def test_an_answer_without_a_time_counts_as_of_the_opening():
    """An entry whose time is missing stands where the case was opened."""
    entries = payments.read_payment({"id": "PAY-1"})
    assert merge.merge_entries(OPENED, [], entries, [], [])[0]["timestamp"] == "2026-01-01T00:00:00.000000Z"
