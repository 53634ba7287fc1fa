"""JSON Lines: a line that can't be read is refused, and the next one is read."""

import io
import json

import pytest

from support_service.importing.entries import MAX_LINE_BYTES, read_lines
from tests.support.each import each_row


async def read(data):
    return [entry async for entry in read_lines(io.BytesIO(data))]


def line_of(size):
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


async def test_lines_have_numbers_and_sizes_that_add_up_to_the_file():
    """Blank lines are left out but counted, as editors number lines. Some editors begin a file with a mark."""
    data = b'{"a":1}\r\n\n  \n{"a":2}\n{"a":3}'
    entries = await read(data)
    assert [(each.place, each.document) for each in entries] == [(1, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]
    assert [each.size for each in entries] == [9, 8, 7]
    assert [each.document for each in await read(b'\xef\xbb\xbf{"a":1}\n')] == [{"a": 1}]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
async def test_line_of_one_mebibyte_is_read(end):
    """The line's end does not count."""
    (entry,) = await read(line_of(MAX_LINE_BYTES) + end)
    assert entry.refusal is None


@each_row("size", [MAX_LINE_BYTES + 1, MAX_LINE_BYTES + 2, MAX_LINE_BYTES + 3, 2 * MAX_LINE_BYTES])
@each_row("end", [b"\n", b"\r\n"])
async def test_longer_line_is_refused_and_the_next_one_is_read(size, end):
    """However long it is: it is not kept in memory. The last line may have no end."""
    long, after = await read(line_of(size) + end + b'{"a":1}')
    assert (long.refusal.code, long.size, long.document) == ("line_too_long", size + len(end), None)
    assert (after.place, after.document) == (2, {"a": 1})
    (last,) = await read(line_of(size))
    assert (last.refusal.code, last.size) == ("line_too_long", size)


@each_row(
    ("line", "code"),
    [
        *((line, "malformed_json") for line in (b"not json", b'{"a": 1', b'{"a": NaN}', b'{"a": 1e400}')),
        # Bytes of no character, and two forms of a surrogate.
        *((b'{"a": "%s"}' % text, "malformed_json") for text in (b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800")),
        *((line, "invalid_request") for line in (b'{"a": "\\u0000"}', b'{"\\u0000": 1}')),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "malformed_json"),
        (b"[" * 100_000 + b"]" * 100_000, "malformed_json"),
        (b"[" + b"{}," * 20_000 + b"{}]", "malformed_json"),
    ],
)
async def test_what_the_api_refuses_as_a_body_is_refused_as_a_line(line, code):
    """Bad UTF-8, NUL characters, numbers and depths that a database can't hold."""
    refused, after = await read(line + b"\n" + json.dumps({"a": 1}).encode())
    assert refused.refusal.code == code
    assert after.document == {"a": 1}
