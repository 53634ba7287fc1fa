"""Queries that a route parses into its model."""

from types import SimpleNamespace

import pytest
from pydantic import BaseModel
from yarl import URL

from support_service.core.errors import ValidationFailed
from support_service.guard.json_body import query_reader


class Query(BaseModel):
    limit: int = 10
    text: str = ""
    tags: tuple[str, ...] = ()


def request(query):
    return SimpleNamespace(rel_url=URL.build(path="/", query_string=query, encoded=True))


def test_same_query_is_parsed_once():
    """Requests with the same query share its model; values are decoded, and empty ones count as missing."""
    read = query_reader(Query)
    first = read(request("limit=5&text=a%20b+c"))
    assert (first.limit, first.text) == (5, "a b c")
    assert read(request("limit=5&text=a%20b+c")) is first
    assert read(request("")) == read(request("limit=&unknown=1")) == Query()


def test_repeated_parameter():
    """A field with several values gets all of them, any other the last one."""
    read = query_reader(Query)
    assert read(request("tags=a&tags=&tags=b")).tags == ("a", "b")
    assert read(request("tags=a%2Cb")).tags == ("a,b",)
    assert read(request("tags=")).tags == ()
    assert read(request("limit=1&limit=2")).limit == 2


def test_refused_query_is_refused_again():
    read = query_reader(Query)
    for query in ("limit=x", "limit=x", "text=%00", "text=%00"):
        with pytest.raises(ValidationFailed):
            read(request(query))
