"""Runbooks are whole, in step with what they speak of, and say the same in both languages."""

import ast
import re
import shlex
import subprocess
from dataclasses import replace
from functools import cache
from math import isclose
from pathlib import Path

import pytest
from grafana.rows import ROWS
from observability import alert_lists
from observability.signal import GIB, runbook_of
from observability.signals import ALERTS

import support_service
from support_service.commands.parser import build_parser
from support_service.core import problem_codes
from support_service.guard.problems import CODE_BY_STATUS
from support_service.platform.database.failures import DATABASE_CODES
from tests.support.each import each
from tests.support.promql import NAME, RULES, known_series, queried_series, series_family
from tests.support.runbooks.pages import (
    ACTIONS,
    BLOCK,
    CHECKS,
    ENGLISH,
    PAGES,
    VIETNAMESE,
    actions,
    anchor,
    blocks,
    checks,
    page_text,
    rows,
    words_to_first_action,
)

NO_ALERT = {"README.md", "drill.md", "errors.md", "timeline-slow-or-attachment-backlog.md"}
ENTRIES = [page for page in PAGES if page not in NO_ALERT - {"timeline-slow-or-attachment-backlog.md"}]
TABLE = {ENGLISH: "| sign | command | action |", VIETNAMESE: "| dấu hiệu | lệnh | hành động |"}
SECTIONS = {
    ENGLISH: ("## Resolved when", "## Lasting fix", "## Why it fires", "**Fires** when ", "**Impact**: "),
    VIETNAMESE: (
        "## Kết thúc khi",
        "## Khắc phục lâu dài",
        "## Vì sao kích hoạt",
        "**Kích hoạt** khi ",
        "**Ảnh hưởng**: ",
    ),
}
SHELL = {ENGLISH: "(README.md#set-up-your-shell)", VIETNAMESE: "(README.md#chuẩn-bị-shell)"}
CONDITION = {ENGLISH: "When ", VIETNAMESE: "Khi "}
SIDE_EFFECT = {ENGLISH: "Side effect: ", VIETNAMESE: "Tác dụng phụ: "}
ROLLBACK = {ENGLISH: "README.md#roll-back", VIETNAMESE: "README.md#rollback"}
TO_FIRST_ACTION = 90  # words: what is read at a glance
FIRST_PAGE = {  # sections of README.md, in the order in which a newly paged engineer needs them
    ENGLISH: ("## Read the alert", "## Set up your shell", "## First three checks", "## Overrides", "## Escalate"),
    VIETNAMESE: ("## Đọc alert", "## Chuẩn bị shell", "## Ba bước kiểm tra đầu tiên", "## Override", "## Chuyển cấp"),
}
LOGGED_BY = ("info", "warning", "error", "exception", "Job")
TYPED = {"$ID": "1764028800000-0", "$SERVICE": "payment"}  # what commands ask for, as a person types it
# A number in the sentence whose link comes next.
LIMIT_BESIDE_LINK = re.compile(
    r"(?:[Oo]ver|[Aa]bove|[Tt]rên) (\d+(?:[.,]\d+)?) ?(GiB|%|s)?(?:(?!\. |\]\().)*\]\(([a-z0-9-]+\.md)\)"
)
BOTH = (ENGLISH, VIETNAMESE)


def alerts():
    """Every alert that the dashboard leads to, and that Prometheus knows."""
    shown = {alert for row in ROWS for panel in row.panels for alert in panel.alerts}
    return shown | {name for path in RULES for name in re.findall(r"alert: (\S+)", path.read_text())}


def test_every_alert_has_one_entry_and_every_entry_an_alert():
    """The file is the alert's name in kebab case."""
    assert {runbook_of(alert) for alert in alerts()} == set(PAGES) - NO_ALERT


def test_each_page_exists_in_both_languages():
    assert sorted(path.name for path in VIETNAMESE.glob("*.md")) == PAGES


@each(page=PAGES)
def test_queries_and_commands_are_equal_in_both_languages(page):
    for kind in ("sh", "promql"):
        assert blocks(page, kind, VIETNAMESE) == blocks(page, kind)


@each(page=ENTRIES, folder=BOTH)
def test_page_has_every_section_in_order(page, folder):
    """The table, the actions, at least three checks with the normal result, the end, the fix, and the reasons."""
    text = page_text(folder, page)
    places = [text.find(part) for part in (TABLE[folder], ACTIONS[folder], CHECKS[folder], *SECTIONS[folder])]
    assert -1 not in places
    assert places == sorted(places)
    assert len(checks(page, folder)) >= 3
    assert any("```" in check for check in checks(page, folder))
    assert any(re.search(r"Normal|Bình thường", check) for check in checks(page, folder))


@each(page=ENTRIES, folder=BOTH)
def test_page_acts_first(page, folder):
    """Its table comes before any prose, its first action within a few words. It links the set-up of the shell."""
    _, head, table, _ = page_text(folder, page).split("\n\n", 3)
    assert table.startswith(TABLE[folder])
    assert SHELL[folder] in head
    assert words_to_first_action(page, folder) <= TO_FIRST_ACTION


@each(page=ENTRIES, folder=BOTH)
def test_table_of_a_page_leads_to_its_actions(page, folder):
    """Each row names an action of the page or another page. Each action is named by a row."""
    table, headings = rows(page, folder), {f"#{anchor(name)}": name for name in actions(page, folder)}
    assert len(table) == page_text(folder, page).split("\n\n", 3)[2].count("\n") - 1
    named = {row.target: row.action for row in table if row.target.startswith("#")}
    assert named == headings
    for target, _, heading in (row.target.partition("#") for row in table):
        titles = re.findall(r"^#{2,3} (.+)$", page_text(folder, target or page), re.MULTILINE)
        assert not heading or heading in map(anchor, titles), heading


@each(page=ENTRIES, folder=BOTH)
def test_table_of_a_page_names_its_checks(page, folder):
    """The number of a check exists, and a command is one of that check."""
    found = checks(page, folder)
    for row in rows(page, folder):
        if "(README.md#" in row.command or row.command in ("the alert's summary", "tóm tắt của alert"):
            continue
        (number,) = re.findall(r"(?:check|bước) (\d)\b", row.command)
        for command in re.findall(r"`(.+?)`", row.command):
            assert command in found[int(number) - 1], command


@each(page=ENTRIES, folder=BOTH)
def test_actions_state_their_condition_and_side_effect(page, folder):
    """An action has a sentence of each. A rollback needs errors that began with a rollout."""
    for text in actions(page, folder).values():
        assert text.startswith(CONDITION[folder])
        assert SIDE_EFFECT[folder] in " ".join(text.split())
    for row in rows(page, folder):
        assert row.target != ROLLBACK[folder] or re.search(r"rollout|đợt phát hành", row.sign), row.sign


@each(page=ENTRIES)
def test_checks_print_the_values_that_actions_change(page):
    """The value before is needed to choose the new one, and to undo the action."""
    told = "\n".join(checks(page))
    for command in "\n".join(actions(page).values()).splitlines():
        changed = re.findall(r"config set (\S+)|ALTER SYSTEM SET (\w+)", command)
        changed += re.findall(r" SUPPORT_(\w+)(?==)()", command) if "$SET " in command else []
        assert [name for names in changed for name in names if name and name not in told] == []


@each(page=ENTRIES)
def test_tables_and_actions_are_equal_in_both_languages(page):
    """Row by row the same check, and the same action or page. Actions have the same commands."""

    def table(folder):
        order = list(actions(page, folder))
        for row in rows(page, folder):
            own = row.target.startswith("#")
            yield (
                re.findall(r"`.+?`|\d", row.command),
                order.index(row.action) if own else row.target.partition("#")[0],
            )

    def commands(folder):
        return [BLOCK.findall(text) for text in actions(page, folder).values()]

    assert [*table(ENGLISH)] == [*table(VIETNAMESE)]
    assert commands(ENGLISH) == commands(VIETNAMESE)


def test_numbers_of_vietnamese_pages_have_vietnamese_signs():
    """A dot before thousands and a comma before decimals: 1,000 would be read as one. What commands print stays."""
    code = re.compile(r"^ *```.*?^ *```$|`[^`]*`|\]\([^)]*\)|HTTP/\d\.\d", re.DOTALL | re.MULTILINE)
    native = re.compile(r"([1-9]\d{0,2}(\.\d{3})+|\d+)(,\d{1,2})?|0,\d+")
    for page in (*VIETNAMESE.glob("*.md"), *(alert_lists.ROOT / "observability" / "vi").glob("*.md")):
        numbers = re.findall(r"\d+(?:[.,]\d+)+", code.sub("", page.read_text()))
        assert [number for number in numbers if not native.fullmatch(number)] == [], page.name


def test_pages_state_the_thresholds_of_their_alerts(monkeypatch):
    """A changed threshold fails the pages that mention it, in both languages."""
    assert alert_lists.unstated_thresholds() == []
    (latency,) = (alert for alert in ALERTS if alert.name == "SupportTimelineLatencyHigh")
    monkeypatch.setattr(alert_lists, "ALERTS", [replace(latency, stated=("9 s",), for_="77m")])
    assert [line.partition(",")[0] for line in alert_lists.unstated_thresholds()] == [
        "SupportTimelineLatencyHigh compares with 2",
        "SupportTimelineLatencyHigh compares with 10",
        "runbooks/support-timeline-latency-high.md does not state '9 s'",
        "runbooks/support-timeline-latency-high.md does not state '77 minute'",
        "runbooks/vi/support-timeline-latency-high.md does not state '9 s'",
        "runbooks/vi/support-timeline-latency-high.md does not state '77 phút'",
    ]


@each(page=ENTRIES, folder=BOTH)
def test_numbers_beside_links_are_limits_of_the_alert_behind(page, folder):
    """Where a page says "over 15 GiB: go to" a page, the alert of that page compares with 15 GiB."""
    limits = {alert.runbook: alert.limits for alert in ALERTS}
    units = {"GiB": GIB, "%": 0.01}
    lines = [*(f"{row.sign} | [{row.action}]({row.target})" for row in rows(page, folder)), *checks(page, folder)]
    for line in lines:
        for number, unit, target in LIMIT_BESIDE_LINK.findall(" ".join(line.split())):
            value = float(number.replace(",", ".")) * units.get(unit, 1)
            assert value == 0 or any(isclose(value, limit) for limit in limits.get(target, ())), (number, unit, target)


@each(page=PAGES, folder=BOTH)
def test_relative_links_of_pages_exist(page, folder):
    for target in re.findall(r"\]\(([^)#:]+)\)", page_text(folder, page)):
        assert (folder / target).is_file(), target


@each(folder=BOTH)
def test_index_lists_every_page(folder):
    index = page_text(folder, "README.md")
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in index] == []


@each(folder=BOTH)
def test_index_guides_a_newly_paged_engineer(folder):
    """It explains how to read an alert, has three checks, shows the overrides and says how to escalate."""
    page = page_text(folder, "README.md")
    places = [page.find(section) for section in FIRST_PAGE[folder]]
    assert -1 not in places
    assert places == sorted(places)
    checks = page[places[2] : places[3]]
    assert re.findall(r"^(\d+)\. ", checks, re.MULTILINE) == ["1", "2", "3"]
    assert "support-service timeline status" in page[places[3] : places[4]]


@each(page=PAGES)
def test_metrics_of_pages_exist(page):
    """Every metric of ours is in the table."""
    for query in blocks(page, "promql"):
        assert queried_series(query) <= known_series(), query
    prose = BLOCK.sub("", page_text(ENGLISH, page))
    assert {series_family(name) for name in NAME.findall(prose) if name.startswith("support_")} <= known_series()


@each(page=PAGES)
@pytest.mark.usefixtures("processes")
def test_commands_of_pages_are_valid(page):
    """The shell parses every command, and `support-service` its own."""
    commands = blocks(page, "sh")
    subprocess.run(["bash", "-n"], input="\n".join(commands), text=True, check=True, timeout=10)
    for command in commands:
        _, ours, rest = command.partition("$RUN support-service ")
        if ours:
            for asked, typed in TYPED.items():
                rest = rest.replace(asked, typed)
            build_parser().parse_args(shlex.split(rest))


@each(page=PAGES)
def test_object_of_a_command_is_a_parameter(page):
    """No override names a fixed service. A command that reads input is alone in its block, or in a function."""
    for command in blocks(page, "sh"):
        assert " degrade " not in command or 'timeline degrade "$SERVICE" ' in command
    for language, content in BLOCK.findall(page_text(ENGLISH, page)):
        asks = re.search(r"^ *read -rp|^ *\$(?:REPLACE|ROLLBACK)", content, re.MULTILINE)
        assert language != "sh" or not asks or content.count("\n") == 1, content


@each(page=PAGES, folder=BOTH)
def test_block_of_commands_is_for_one_deployment(page, folder):
    """Commands for Kubernetes and for Compose are in separate blocks."""
    for _, content in BLOCK.findall(page_text(folder, page)):
        assert "kubectl" not in content or "docker" not in content, content


@each(page=ENTRIES, folder=BOTH)
def test_each_check_runs_in_each_deployment(page, folder):
    """A check with a command of Kubernetes has one of Compose as well."""
    for check in checks(page, folder):
        assert "kubectl" not in check or "docker" in check, check


@cache
def calls():
    """Every call in the source, with the name of what is called."""
    return [
        (getattr(node.func, "id", getattr(node.func, "attr", None)), node)
        for path in Path(support_service.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


@cache
def logged():
    """The words of every line that the source logs, without what is put into them."""
    return {
        part.value
        for name, call in calls()
        if name in LOGGED_BY
        for part in ast.walk(call)
        if isinstance(getattr(part, "value", None), str)
    }


@each(page=PAGES)
def test_log_patterns_of_pages_match_log_messages(page):
    """Each alternative of a pattern is in a message of the source."""
    words = logged()
    for command in [command for command in blocks(page, "sh") if "LOGS | grep" in command]:
        for pattern in re.findall(r'grep (?:-E )?"([^"$]+)"', command):
            for alternative in pattern.split("|"):
                named = alternative.removesuffix(" failed")  # by what is done again and again, which fails by its name
                assert any(alternative in each or named in each for each in words), alternative


PLACES_OF_CODES = {
    "problem": 0,
    "problem_response": 0,
    "refuse": 1,
    "check_resource_version": 2,
    "resource_conflict": 1,
}
CODES_OF_KINDS = {"not_found_code", "changed_code", "exists_code", "too_many_code"}  # of named resources


def raised():
    """The code of every error that the source makes."""
    found = {"http_error", "storage_unavailable", *DATABASE_CODES, *CODE_BY_STATUS.values()}
    for name, call in calls():
        named = [each.value for each in call.keywords if each.arg in CODES_OF_KINDS and name == "ResourceKind"]
        place = PLACES_OF_CODES.get(name, len(call.args))
        found |= {each.value for each in (*named, *call.args[place : place + 1]) if isinstance(each, ast.Constant)}
    return found


def test_problem_codes_of_the_source_are_those_of_the_tables():
    """Each code that an error has is in a table, which has its status. No row is without use."""
    assert raised() == {*problem_codes.PROBLEM_CODES_BY_NAME, *problem_codes.COMMAND_LINE_ERRORS_BY_NAME}


def test_problem_codes_are_sorted_and_unique():
    for table in ([code.name for code in problem_codes.PROBLEM_CODES], list(problem_codes.COMMAND_LINE_ERRORS_BY_NAME)):
        assert table == sorted(set(table))


@each(folder=BOTH)
def test_every_code_is_explained(folder):
    """A code for clients or the command line has a line with the texts of the table, and no other has."""
    page = page_text(folder, "errors.md")
    answered = re.findall(r"^\| `([a-z_]+)` \| (\d{3}|4xx) \| (.+?) \| .+ \|$", page, re.MULTILINE)
    assert [(code, status) for code, status, _ in answered] == [
        (code.name, str(code.status or "4xx")) for code in problem_codes.PROBLEM_CODES
    ]
    typed = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|$", page, re.MULTILINE)
    assert [code for code, _ in typed] == list(problem_codes.COMMAND_LINE_ERRORS_BY_NAME)
    if folder == ENGLISH:
        assert [meaning for _, _, meaning in answered] == [code.meaning for code in problem_codes.PROBLEM_CODES]
        assert dict(typed) == problem_codes.COMMAND_LINE_ERRORS_BY_NAME
