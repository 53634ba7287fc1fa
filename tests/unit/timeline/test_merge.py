"""The merge of a timeline, for arbitrary JSON input."""

from collections import Counter
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import chain

import pydantic_core
from hypothesis import given
from hypothesis import strategies as st

from support_service.core.clock import format_time
from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import SOURCES
from support_service.timeline import merge
from support_service.timeline.source_calls import calls_for
from tests.support.each import each_row

OPENED = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ("context", "service", "message", "attachment")
# Of every call to every source: of objects, of their parts, and of pages.
READERS = {
    source.service: [call.parse for call in calls_for(source, SourceReferences(("1",), ("1",)))]
    for source in SOURCES.values()
}

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)
times = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))  # noqa: DTZ001 - the offset varies
time_texts = times.map(datetime.isoformat) | times.map(lambda at: f"{at.isoformat()}+07:00")
odd_time_texts = st.sampled_from(
    [
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59.999999Z"),
        *("2026-W01-1", "20260101T000000,5+0000", "2026-01-01 00:00:00+00:00:00.000001", "2026-02-30T00:00:00Z"),
        *("2026-01-01T24:00:00Z", "\uff12\uff10\uff12\uff16-01-01T00:00:00Z", "2026-01-01T00:00:00Z\x00", "\ud800"),
    ]
)
timestamps = time_texts | odd_time_texts | json
contexts = st.lists(
    st.dictionaries(st.text(), json, max_size=3)
    | st.fixed_dictionaries({"type": json, "timestamp": timestamps}, optional={"orderId": json, "origin": json})
)
answers = json | st.fixed_dictionaries(
    {"id": json | st.just("1"), "createdAt": timestamps, "updatedAt": timestamps},
    optional={"status": json, "items": json},
)


def utc(at):
    """Format a time as the readers of the sources do."""
    return format_time(at.replace(tzinfo=UTC))


collected = st.lists(
    st.fixed_dictionaries(
        {"type": st.text(min_size=1), "timestamp": st.none() | times.map(utc)}, optional={"origin": json}
    )
)
moments = st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is given


def message_at(at, message="Hello"):
    of_all = {"authorType": "agent", "authorId": "agent-7", "attachmentUri": None, "attachmentIds": []}
    others = {"sentiment": None, "metadata": None, "visibility": "internal"}
    return {**of_all, "message": message, **others, "createdAt": format_time(at)}


def attachment_at(at, filename="a.txt"):
    return {"filename": filename, "uri": f"/{filename}", "visibility": "public", "createdAt": format_time(at)}


def merge_entries(opened_at, context, collected, messages, attachments):
    opening = format_time(opened_at)
    return merge.merge_by_time(
        merge.context_entries(opening, context),
        merge.service_entries(opening, {"order": collected}),
        merge.message_entries(messages),
        merge.attachment_entries(attachments),
    )


def entry_time(entry):
    at = datetime.fromisoformat(entry["timestamp"])
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@given(contexts, collected, st.lists(moments), st.lists(moments))
def test_merge_contains_each_entry_once_sorted_by_time(context, known, messages, attachments):
    """Each has a type and a timestamp. Only the origin, and an invalid type or timestamp, of an entry are replaced.

    Neither the context nor the snapshots, which are used again, are changed.
    """
    before = deepcopy((context, known))
    merged = merge_entries(OPENED, context, known, map(message_at, messages), map(attachment_at, attachments))
    assert (context, known) == before
    assert len(merged) == len(context) + len(known) + len(messages) + len(attachments)
    assert all(isinstance(entry["type"], str) and isinstance(entry["timestamp"], str) for entry in merged)
    assert [entry_time(entry) for entry in merged] == sorted(map(entry_time, merged))
    for entry in context:
        kept = {name: value for name, value in entry.items() if name not in ("type", "timestamp", "origin")}
        assert any(kept == {name: other[name] for name in kept.keys() & other.keys()} for other in merged)
    expected = [entry | {"timestamp": entry["timestamp"] or format_time(OPENED), "origin": "order"} for entry in known]
    assert _multiset(each for each in merged if each["origin"] == "order") == _multiset(expected)


@given(st.lists(st.tuples(moments, st.none() | moments)))
def test_messages_are_at_the_time_at_which_they_were_sent(times_):
    messages = [message_at(at) | {"sentAt": sent and format_time(sent)} for at, sent in times_]
    merged = merge_entries(OPENED, [], [], messages, [])
    assert [entry["timestamp"] for entry in merged] == sorted(format_time(sent or at) for at, sent in times_)


@each_row(("minutes", "is_late"), [(0, False), (5, False), (-5, False), (5.01, True), (-5.01, True)])
def test_message_that_was_sent_at_another_time_says_when_it_was_received(minutes, is_late):
    """Beyond five minutes, the difference of two clocks. One that was sent without a time has no `receivedAt`."""
    sent = format_time(OPENED + timedelta(minutes=minutes))
    merged = merge_entries(OPENED, [], [], [message_at(OPENED) | {"sentAt": at} for at in (sent, None)], [])
    late = next(entry for entry in merged if entry["timestamp"] == sent)
    assert late.get("receivedAt") == (format_time(OPENED) if is_late else None)
    assert sum("receivedAt" in entry for entry in merged) == is_late


@given(answers)
def test_readers_raise_only_contract_violations(answer):
    """For any JSON, a reader returns entries with a type or raises ValueError."""
    for read in chain(*READERS.values()):
        try:
            entries = read(answer)
        except ValueError:
            continue
        merged = merge_entries(OPENED, [], entries, [], [])
        assert len(merged) == len(entries)
        assert all(entry["type"] for entry in merged)


ways = st.sampled_from(KINDS)


@given(st.lists(st.tuples(ways, st.sampled_from([OPENED, OPENED + timedelta(hours=1)])), max_size=20))
def test_entries_with_equal_times_are_ordered_by_kind(given_):
    """At one time the order is: context, source entries, messages, attachments, each in input order."""
    numbered = {way: [(number, at) for number, (kind, at) in enumerate(given_) if kind == way] for way in KINDS}
    merged = merge_entries(
        OPENED,
        [{"type": "note", "timestamp": format_time(at), "number": str(number)} for number, at in numbered["context"]],
        [{"type": "order", "timestamp": format_time(at), "number": str(number)} for number, at in numbered["service"]],
        [message_at(at, str(number)) for number, at in numbered["message"]],
        [attachment_at(at, str(number)) for number, at in numbered["attachment"]],
    )
    expected = sorted(((at, KINDS.index(way), number) for way in KINDS for number, at in numbered[way]))
    numbers = [int(entry.get("number") or entry.get("message") or entry["filename"]) for entry in merged]
    assert numbers == [number for *_, number in expected]


@given(contexts, collected, st.lists(moments, max_size=5), st.data())
def test_merge_result_does_not_depend_on_input_order(context, known, messages, data):
    """Shuffled input yields the same entries at the same times; only ties may be ordered differently."""
    once = merge_entries(OPENED, context, known, map(message_at, messages), [])
    shuffled = [data.draw(st.permutations(entries)) for entries in (context, known, messages)]
    again = merge_entries(OPENED, shuffled[0], shuffled[1], map(message_at, shuffled[2]), [])
    assert _multiset(again) == _multiset(once)
    assert list(map(entry_time, again)) == list(map(entry_time, once))


@given(contexts, collected, collected, st.lists(moments))
def test_no_entry_can_claim_another_origin(context, ordered, paid, messages):
    """Neither a context nor an answer of a service sets `origin`, and entries that a cache has without it get it."""
    opening = format_time(OPENED)
    of_services = merge.service_entries(opening, {"order": ordered, "payment": paid})
    for origins, dated in (
        (["context"] * len(context), merge.context_entries(opening, context)),
        (["order"] * len(ordered) + ["payment"] * len(paid), of_services),
        (["case"] * len(messages), merge.message_entries(map(message_at, messages))),
        (["case"] * len(messages), merge.attachment_entries(map(attachment_at, messages))),
    ):
        assert [entry["origin"] for _, entry in dated] == origins


def _multiset(entries):
    return Counter(repr(sorted(entry.items())) for entry in entries)


unusual_numbers = st.sampled_from(
    ["1e400", "-1e400", "-0.0", "1E-400", "9" * 400, "0.1" + "0" * 400 + "1", "NaN", "Infinity"]
)
unusual_texts = st.sampled_from(
    [r'"\ud800"', r'"\u0000"', '"\u202e"', '"2026-01-01T00:00:00Z"', '"x"', "null", "true", "[]", "{}"]
)
names = st.sampled_from(["id", "orderId", "status", "createdAt", "updatedAt", "items", "type", "payload", "amount"])


def _object_of(fields):
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"


bodies = st.recursive(
    unusual_numbers | unusual_texts,
    lambda inner: (
        st.lists(st.tuples(names, inner), max_size=5).map(_object_of)  # names may be repeated
        | st.lists(inner, max_size=4).map(lambda values: f"[{','.join(values)}]")
    ),
    max_leaves=12,
)


@given(st.binary() | st.text().map(lambda text: text.encode(errors="replace")) | bodies.map(str.encode))
def test_arbitrary_response_bytes_are_merged_or_rejected(body):
    """Any bytes become entries that can be merged and serialised, or raise a ValueError."""
    for read in chain(*READERS.values()):
        try:
            entries = read(pydantic_core.from_json(body, allow_inf_nan=False))
        except ValueError:
            continue
        merged = merge_entries(OPENED, [], entries, [], [])
        assert len(merged) == len(entries)
        sent = pydantic_core.from_json(pydantic_core.to_json(merged, inf_nan_mode="null"))
        assert [entry["timestamp"] for entry in sent] == sorted(entry["timestamp"] for entry in sent)


@each_row(
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
def test_timestamps_are_normalised_to_utc(given_, expected):
    """A timestamp becomes UTC with microseconds; an invalid one becomes None."""
    assert READERS["order"][0]({"id": "1", "createdAt": given_})[0]["timestamp"] == expected
