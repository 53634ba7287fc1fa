"""A list of cases in one JSON document: read case by case, up to the place where it is no JSON any more."""

import io
import json
import tracemalloc

import pytest

from support_service.core.errors import ValidationFailed
from support_service.importing.entries import read_array


async def test_elements_have_places_and_sizes_that_add_up_to_the_file():
    data = json.dumps([{"a": "x" * 50_000}, {"a": 2.5}, {"a": [None, True]}]).encode()
    entries = [entry async for entry in read_array(io.BytesIO(data))]
    assert [each.place for each in entries] == [1, 2, 3]
    assert entries[1].document == {"a": 2.5}
    assert sum(each.size for each in entries) == len(data)


async def test_element_beyond_the_limits_of_json_is_refused_in_words():
    """NUL characters, the depth from the case, and the number of objects and lists. The next one is read."""
    at_the_limit, deep = "[" * 31 + "]" * 31, "[" * 2000 + "]" * 2000
    too_many = ",".join(["{}"] * 10_000)
    values = ('"\\u0000"', deep, at_the_limit, f"[{at_the_limit}]", f"[{too_many}]", "[]")
    documents = ",".join(f'{{"a":{value}}}' for value in values)
    refusals = [entry.refusal async for entry in read_array(io.BytesIO(f"[{documents}]".encode()))]
    assert [each and each.code for each in refusals[:3]] == ["invalid_request", "malformed_json", None]
    assert [each and each.detail for each in refusals[2:]] == [
        None,
        "The case is nested deeper than 32 levels, the limit.",
        "The case has more than 10,000 objects and lists, the limit.",
        None,
    ]


@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_memory_does_not_grow_with_the_depth_of_an_element(opening):
    """What is nested too deeply is read on without being kept."""
    tracemalloc.start()
    try:
        with pytest.raises(ValidationFailed, match="not JSON after 1 cases"):
            _ = [entry async for entry in read_array(io.BytesIO(f'[{{"a":1}},{opening * 40_000}'.encode()))]
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "number"),
    [
        *((b"", 0), (b'[{"a":1},{"a":', 1), (b'[{"a":1},{"a":2}', 2), (b'[{"a":1} {"a":2}]', 1)),
        (b'[{"a":1},{"a":"\xff"}]', 1),
    ],
)
async def test_end_of_valid_json_is_an_error_after_the_cases_before_it(data, number):
    """What follows can't be found. An empty file is an export that failed. The error quotes nothing of the file."""
    source = read_array(io.BytesIO(data))
    for _ in range(number):
        await anext(source)
    with pytest.raises(ValidationFailed) as refused:
        await anext(source)
    assert (f"after {number} cases" in str(refused.value)) or not data
    assert str(refused.value).endswith("lexical error: invalid bytes in UTF8 string.") == (b"\xff" in data)


async def test_element_that_is_too_large_for_the_memory_ends_the_import():
    file = io.BytesIO(b'[{"a":"' + b"x" * 10_000_000 + b'"}]')
    with pytest.raises(ValidationFailed, match="more than 100,000 bytes"):
        _ = [entry async for entry in read_array(file, max_element_bytes=100_000)]
    assert file.tell() < 1_000_000
