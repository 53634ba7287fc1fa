"""Runbooks are whole, in step with what they speak of, and say the same in both languages."""

import ast
import re
import shlex
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from grafana.rows import ROWS
from observability import alert_lists
from observability.signal import runbook_of
from observability.signals import ALERTS

import support_service
from support_service.commands.parser import build_parser
from support_service.core import errors, problem_codes
from support_service.guard.problems import CODE_BY_STATUS
from support_service.platform.database.failures import DATABASE_CODES
from tests.support.promql import NAME, RULES, known_series, queried_series, series_family
from tests.support.runbooks.pages import BLOCK, ENGLISH, PAGES, VIETNAMESE, blocks, page_text

NO_ALERT = {"README.md", "drill.md", "errors.md", "timeline-slow-or-attachment-backlog.md"}
ENTRIES = [page for page in PAGES if page not in NO_ALERT - {"timeline-slow-or-attachment-backlog.md"}]
SECTIONS = {
    ENGLISH: ("**Fires** when ", "**Impact**: ", "## Checks", "## Mitigation", "## Lasting fix", "## Resolved when"),
    VIETNAMESE: (
        "**Kích hoạt** khi ",
        "**Ảnh hưởng**: ",
        "## Kiểm tra",
        "## Giảm thiểu",
        "## Khắc phục lâu dài",
        "## Kết thúc khi",
    ),
}
FIRST_PAGE = {  # sections of README.md, in the order in which a newly paged engineer needs them
    ENGLISH: ("## Read the alert", "## Set up your shell", "## First three checks", "## Overrides", "## Escalate"),
    VIETNAMESE: ("## Đọc alert", "## Chuẩn bị shell", "## Ba bước kiểm tra đầu tiên", "## Override", "## Chuyển cấp"),
}
LOGGED_BY = ("info", "warning", "error", "exception", "run_every", "poll_with_backoff", "start_every")
TYPED = {"$ID": "1764028800000-0", "$SERVICE": "payment"}  # what commands ask for, as a person types it
both = pytest.mark.parametrize("folder", [ENGLISH, VIETNAMESE], ids=["en", "vi"])


def alerts():
    """Every alert that the dashboard leads to, and that Prometheus knows."""
    shown = {alert for row in ROWS for panel in row.panels for alert in panel.alerts}
    return shown | {name for path in RULES for name in re.findall(r"alert: (\S+)", path.read_text())}


def sections(page, folder=ENGLISH):
    """The place of each part of an entry."""
    return [page_text(folder, page).find(part) for part in SECTIONS[folder]]


def test_every_alert_has_one_entry_and_every_entry_an_alert():
    """The file is the alert's name in kebab case."""
    assert {runbook_of(alert) for alert in alerts()} == set(PAGES) - NO_ALERT


def test_each_page_exists_in_both_languages():
    assert sorted(path.name for path in VIETNAMESE.glob("*.md")) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_queries_and_commands_are_equal_in_both_languages(page):
    for kind in ("sh", "promql"):
        assert blocks(page, kind, VIETNAMESE) == blocks(page, kind)


@both
@pytest.mark.parametrize("page", ENTRIES)
def test_page_has_every_section_in_order(page, folder):
    """Trigger, impact, numbered checks with the normal result, mitigation, fix and end."""
    places = sections(page, folder)
    assert -1 not in places
    assert places == sorted(places)
    checks = page_text(folder, page)[places[2] : places[3]]
    assert len(re.findall(r"^\d+\. ", checks, re.MULTILINE)) >= 3
    assert "```" in checks
    assert re.search(r"Normal|Bình thường", checks)


def test_pages_state_the_thresholds_of_their_alerts(monkeypatch):
    """A changed threshold fails the pages that mention it, in both languages."""
    assert alert_lists.unstated_thresholds() == []
    (latency,) = (alert for alert in ALERTS if alert.name == "SupportTimelineLatencyHigh")
    monkeypatch.setattr(alert_lists, "ALERTS", [replace(latency, stated=("9 s", "77m"))])
    assert [line.partition(",")[0] for line in alert_lists.unstated_thresholds()] == [
        "runbooks/support-timeline-latency-high.md does not state '9 s'",
        "runbooks/support-timeline-latency-high.md does not state '77 minute'",
        "runbooks/vi/support-timeline-latency-high.md does not state '9 s'",
        "runbooks/vi/support-timeline-latency-high.md does not state '77 phút'",
    ]


@both
@pytest.mark.parametrize("page", PAGES)
def test_relative_links_of_pages_exist(page, folder):
    for target in re.findall(r"\]\(([^)#:]+)\)", page_text(folder, page)):
        assert (folder / target).is_file(), target


@both
def test_index_lists_every_page(folder):
    index = page_text(folder, "README.md")
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in index] == []


@both
def test_index_guides_a_newly_paged_engineer(folder):
    """It explains how to read an alert, has three checks, shows the overrides and says how to escalate."""
    page = page_text(folder, "README.md")
    places = [page.find(section) for section in FIRST_PAGE[folder]]
    assert -1 not in places
    assert places == sorted(places)
    checks = page[places[2] : places[3]]
    assert re.findall(r"^(\d+)\. ", checks, re.MULTILINE) == ["1", "2", "3"]
    assert "support-service timeline status" in page[places[3] : places[4]]


@pytest.mark.parametrize("page", PAGES)
def test_metrics_of_pages_exist(page):
    """Every metric of ours is in the table."""
    for query in blocks(page, "promql"):
        assert queried_series(query) <= known_series(), query
    prose = BLOCK.sub("", page_text(ENGLISH, page))
    assert {series_family(name) for name in NAME.findall(prose) if name.startswith("support_")} <= known_series()


def test_queries_of_pages_are_valid(promtool, tmp_path):
    """Prometheus parses every query."""
    queries = [query for page in PAGES for query in blocks(page, "promql")]
    rules = [f"  - record: q:{number}\n    expr: |\n      {query}\n" for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text("groups:\n- name: runbooks\n  rules:\n" + "".join(rules))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(queries)} rules found" in done.stdout


@pytest.mark.parametrize("page", PAGES)
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


@pytest.mark.parametrize("page", PAGES)
def test_object_of_a_command_is_a_parameter(page):
    """No override names a fixed service. A command that reads input is alone in its block."""
    for command in blocks(page, "sh"):
        assert " degrade " not in command or 'timeline degrade "$SERVICE" ' in command
    for language, content in BLOCK.findall(page_text(ENGLISH, page)):
        assert language != "sh" or "read -rp" not in content or content.count("\n") == 1, content


@both
@pytest.mark.parametrize("page", PAGES)
def test_block_of_commands_is_for_one_deployment(page, folder):
    """Commands for Kubernetes and for Compose are in separate blocks."""
    for _, content in BLOCK.findall(page_text(folder, page)):
        assert "kubectl" not in content or "docker" not in content, content


@both
@pytest.mark.parametrize("page", ENTRIES)
def test_each_check_runs_in_each_deployment(page, folder):
    """A check with a command of Kubernetes has one of Compose as well."""
    places = sections(page, folder)
    for check in re.split(r"^(?=\d+\. )", page_text(folder, page)[places[2] : places[3]], flags=re.MULTILINE):
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


@pytest.mark.parametrize("page", PAGES)
def test_log_patterns_of_pages_match_log_messages(page):
    """Each alternative of a pattern is in a message of the source."""
    words = logged()
    for command in [command for command in blocks(page, "sh") if "LOGS | grep" in command]:
        for pattern in re.findall(r'grep (?:-E )?"([^"$]+)"', command):
            for alternative in pattern.split("|"):
                named = alternative.removesuffix(" failed")  # by what is done again and again, which fails by its name
                assert any(alternative in each or named in each for each in words), alternative


ERRORS_OF_KINDS = {
    "not_found_code": errors.NotFound,
    "changed_code": errors.VersionConflict,
    "exists_code": errors.Conflict,
    "too_many_code": errors.Conflict,
}


def raised():
    """(code, status) of every error that the source makes: by its kind, or where HTTP's own layer refuses."""
    statuses = {name: kind.status for name, kind in vars(errors).items() if getattr(kind, "status", None)}
    found = {
        ("http_error", None),
        *((code, errors.Unavailable.status) for code in DATABASE_CODES),
        *((code, key) for key, code in CODE_BY_STATUS.items()),
    }
    for name, call in calls():
        values = [each.value if isinstance(each, ast.Constant) else None for each in call.args]
        if name in statuses and values and isinstance(values[0], str):
            found.add((values[0], statuses[name]))
        if name in ("problem_response", "refuse") and len(values) > 1 and isinstance(values[1], str):
            found.add((values[1], values[0]))
        if name == "check_resource_version" and values[2] is not None:
            found.add((values[2], errors.VersionConflict.status))
        if name == "ResourceKind":  # of named resources, which raise these
            found |= {
                (each.value.value, ERRORS_OF_KINDS[each.arg].status)
                for each in call.keywords
                if each.arg in ERRORS_OF_KINDS
            }
    return found


def test_problem_codes_of_the_source_are_in_the_table_with_their_status():
    """A row without use must be marked as future."""
    for code, status in raised():
        assert (
            code in problem_codes.COMMAND_LINE_ERRORS_BY_NAME
            or problem_codes.PROBLEM_CODES_BY_NAME[code].status == status
        ), code
    given = {code for code, _ in raised()}
    assert {*problem_codes.PROBLEM_CODES_BY_NAME, *problem_codes.COMMAND_LINE_ERRORS_BY_NAME} <= given


def test_problem_codes_are_sorted_and_unique():
    for table in ([code.name for code in problem_codes.PROBLEM_CODES], list(problem_codes.COMMAND_LINE_ERRORS_BY_NAME)):
        assert table == sorted(set(table))


@both
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
