"""The options of `make bench` select configurations, and mistakes in them are reported."""

import sys

import pytest
from benchmarks import __main__ as bench
from benchmarks import configurations
from benchmarks.configurations import Configuration

from tests.support.each import each_row


@each_row(
    ("options", "expected"),
    [
        ([], [Configuration()]),
        (["--database", "postgresql"], [Configuration("postgresql")]),
        (["--database", "sqlite,postgresql"], [Configuration("sqlite"), Configuration("postgresql")]),
        (["--protected"], [Configuration(protected=True)]),
        (["--replicas", "2,4"], [Configuration("postgresql", replicas=2), Configuration("postgresql", replicas=4)]),
        (["--all"], list(configurations.ALL)),
    ],
)
def test_options_select_configurations(options, expected, monkeypatch):
    """Several replicas select PostgreSQL."""
    monkeypatch.setattr(sys, "argv", ["bench", *options])
    assert list(bench.parse_arguments().configurations) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--database", "oracle"], "unknown database 'oracle': expected some of sqlite, postgresql"),
        (["--replicas", "two"], "invalid numbers 'two'"),
        (["--replicas", "0"], "invalid numbers '0'"),
        (["--database", "sqlite", "--replicas", "2"], "several replicas need --database postgresql"),
    ],
)
def test_invalid_options_are_reported(options, message, monkeypatch, capsys):
    """The message names what is wrong and what is expected."""
    monkeypatch.setattr(sys, "argv", ["bench", *options])
    with pytest.raises(SystemExit):
        bench.parse_arguments()
    assert message in capsys.readouterr().err


def test_each_configuration_has_a_name_of_its_own():
    """The name says what differs from the others."""
    names = [str(configuration) for configuration in configurations.ALL]
    assert len(set(names)) == len(names)
    assert str(Configuration("postgresql", protected=True, replicas=2)) == "postgresql, protected, 2 replicas"
