"""The grammar of the command line matches what it names, and reads values in their usual forms."""

import argparse
import inspect

import pytest

from support_service.commands import grammar
from support_service.commands.parser import build_parser
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.timeline.override_rules import TTL_RANGE
from support_service.timeline.overrides import OVERRIDE_NAMES
from tests.support.command_list import every_command
from tests.support.each import each_row

PROBE = ["probe", "--base-url", "http://127.0.0.1:1"]
TRAFFIC = ["demo", "traffic"]


def test_every_command_has_a_function():
    """It takes arguments and an environment."""
    functions = [each.get_default("run") for _, each in every_command() if each.get_default("run")]
    assert len(functions) > 20
    for each in functions:
        inspect.signature(each).bind(argparse.Namespace(), {})


def test_help_of_overrides_names_every_service_and_the_bounds():
    """The help is plain text, because the table of services is slow to import."""
    helps = {words: each.format_help() for words, each in every_command()}
    assert ", ".join(UPSTREAM_SERVICES) in helps["timeline", "degrade"]
    assert f"{', '.join(OVERRIDE_NAMES)} or all" in helps["timeline", "clear"]
    low, high = TTL_RANGE
    assert f"{low} to {high}" in helps["timeline", "ttl"]


@each_row(
    ("text", "seconds"),
    [("5m", 300.0), ("60s", 60.0), ("2", 2.0), ("1.5s", 1.5), ("0.25", 0.25), (" 2 h ", 7200.0), ("1d", 86_400.0)],
)
@each_row(
    ("command", "option"),
    [(PROBE, "--interval"), (PROBE, "--threshold"), (PROBE, "--event-threshold"), (TRAFFIC, "--duration")],
)
def test_durations_have_a_unit_or_are_seconds(command, option, text, seconds):
    """Every option that takes a duration reads the same forms."""
    name = option.removeprefix("--").replace("-", "_")
    assert getattr(build_parser().parse_args([*command, option, text]), name) == seconds


@each_row("text", ["0", "0s", "-1", "", "s", "5 minutes", "5min", "1e3", "inf", "nan", "9" * 400])
def test_invalid_duration_is_refused_with_the_expected_form(text, capsys):
    """The error quotes the value and shows each form."""
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([*PROBE, f"--interval={text}"])
    assert ended.value.code == 3
    assert capsys.readouterr().err.endswith(
        f"--interval: invalid duration {text!r}: expected a duration above 0, such as 1.5s, 60s or 5m; "
        "a number without a unit means seconds\n"
    )


@each_row(("text", "rate"), [("5", 5.0), ("0.5", 0.5), ("5/s", 5.0), ("300/min", 5.0), ("36/h", 0.01)])
def test_request_rates_are_per_second_without_a_unit(text, rate):
    """`--rate` of traffic is a number, or a number with /s, /min or /h."""
    assert build_parser().parse_args([*TRAFFIC, "--rate", text]).rate == rate


@each_row(("text", "size"), [("64KiB", 65_536), ("25MB", 25_000_000), ("1.5 kB", 1500), ("1B", 1), ("2GiB", 2 << 30)])
def test_sizes_have_a_unit(text, size):
    assert grammar.size(text) == size


@each_row("text", ["", "25", "0MB", "0.5B", "-1MB", "25MB/s", "many"])
def test_invalid_size_is_refused_with_the_expected_form(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a number of bytes with a unit"):
        grammar.size(text)


@each_row("text", ["0", "5m", "-1", "fast", "1/day", "1000001"])
def test_invalid_request_rate_is_refused_with_the_expected_form(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number of requests per second above 0"):
        grammar.request_rate(text)


def test_header_is_split_into_name_and_value():
    """A header is split at its first colon, and spaces around the value are removed."""
    assert grammar.header("X-Tenant:  blue:green ") == ("X-Tenant", "blue:green")
