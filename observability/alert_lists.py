"""What pages have of signals: lists of alerts, the table of a drill by hand, the head of each runbook, and numbers.

A list stands between two comments in its page. What is outside of them is written by hand, and states the thresholds.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path

from grafana.rows import BOARD_UID_BY_PANEL, BOARDS

from observability.rules import SIGNALS_BY_GROUP
from observability.signal import AT_ONCE, GIB, Alert, runbook_of
from observability.signals import ALERTS, SIGNALS

ROOT = Path(__file__).parent.parent
RUNBOOKS = ROOT / "runbooks"
README = ROOT / "README.md"
LIST_BEGIN, LIST_END = "<!-- alerts: written by `make observability` -->\n", "<!-- end of alerts -->\n"
LIST_PATTERN = re.compile(f"(?<={re.escape(LIST_BEGIN)}).*?(?={re.escape(LIST_END)})", re.DOTALL)
FAULT_COUNT_PATTERN = re.compile(r"(?<=\(docs/operations/drill.md\) injects )\d+(?= faults)")
DRILL_FAULTS = sum(bool(fault.alerts) for signal in SIGNALS for fault in signal.drills)
BOARD_TITLES = {board.uid: board.title for board in BOARDS}
# Titles of the groups of alerts, in English and Vietnamese.
AREA_TITLES = {
    "timeline": ("Timeline", "Timeline"),
    "attachments": ("Attachments", "Đính kèm"),
    "events": ("Events, probe", "Event, probe"),
    "service-levels": ("Service levels", "Mức dịch vụ"),
    "service": ("Service", "Service"),
    "replicas": ("Replicas", "Replica"),
    "dependencies": ("Dependencies", "Thành phần phụ thuộc"),
    "access": ("Access, limits", "Truy cập, giới hạn"),
    "traffic": ("Traffic", "Lưu lượng"),
    "objectives": ("Error budgets", "Error budget"),
}
# Of a runbook in English and Vietnamese: the part that says when its alert fires, and units of Prometheus's durations.
FIRES_PATTERNS = (
    re.compile(r"^\*\*Fires\*\* when (.*?)^\*\*Impact\*\*: ", re.DOTALL | re.MULTILINE),
    re.compile(r"^\*\*Kích hoạt\*\* khi (.*?)^\*\*Ảnh hưởng\*\*: ", re.DOTALL | re.MULTILINE),
)
DURATION_UNITS = ({"s": "s", "m": "minute", "h": "hour", "d": "day"}, {"s": "s", "m": "phút", "h": "giờ", "d": "ngày"})
VIETNAMESE_NUMBER, VIETNAMESE_SIGNS = re.compile(r"\d[\d.,]*\d"), str.maketrans(".,", ",.")
FACT_UNITS = {"%": 0.01, "GiB": GIB, "m": 60, "h": 3600, "d": 86_400}
DRILL_HEADINGS = (("break", "repair"), ("phá", "sửa"))
INDEX_HEADINGS = ("severity | in short", "mức độ | tóm tắt")


def generated_files() -> dict[Path, str]:
    """Return every page with a list of alerts, with its current text."""
    index, index_vi = RUNBOOKS / "README.md", RUNBOOKS / "vi" / "README.md"
    pages = {
        index: with_list_replaced(index, _index_tables(0)),
        index_vi: with_list_replaced(index_vi, _index_tables(1)),
    }
    for language, page in enumerate((RUNBOOKS / "drill.md", RUNBOOKS / "vi" / "drill.md")):
        pages[page] = with_list_replaced(page, _exercise_table(language))
    pages[README] = FAULT_COUNT_PATTERN.sub(str(DRILL_FAULTS), README.read_text())
    for alert in ALERTS:
        for path in (RUNBOOKS / alert.runbook, RUNBOOKS / "vi" / alert.runbook):
            if path.exists():  # a test names the missing files
                pages[path] = with_heading_replaced(path, alert)
    return pages


def unstated_thresholds() -> list[str]:
    """Return a line for each runbook that does not state a threshold of its alert, and for each limit without a fact.

    The facts are what the signal says, and how long the condition must hold.
    """
    found = []
    for alert in ALERTS:
        values = {value for fact in alert.stated for value in _values_of_fact(fact)}
        found += [
            f"{alert.name} compares with {limit:g}, and says nothing that its runbooks state about it"
            for limit in sorted(alert.limits)
            if not any(math.isclose(limit, value) for value in values)
        ]
        for language, folder in enumerate((RUNBOOKS, RUNBOOKS / "vi")):
            page = folder / alert.runbook
            part = FIRES_PATTERNS[language].search(page.read_text()) if page.exists() else None
            fires = " ".join(part[1].split()) if part else ""
            for fact in dict.fromkeys((*alert.stated, *({alert.for_} - {AT_ONCE}))):
                written = _written(fact, language)
                if written not in fires:
                    found.append(f"{page.relative_to(ROOT)} does not state {written!r}, the threshold of {alert.name}")
    return found


def _written(fact: str, language: int) -> str:
    """Return a fact as a page in a language states it: Vietnamese writes 5.000 and 0,25 for 5,000 and 0.25."""
    number, unit = fact[:-1], fact[-1:]
    if number.isdigit() and unit in DURATION_UNITS[language]:
        return f"{number} {DURATION_UNITS[language][unit]}"
    return VIETNAMESE_NUMBER.sub(lambda found: found[0].translate(VIETNAMESE_SIGNS), fact) if language else fact


def _values_of_fact(fact: str) -> Iterable[float]:
    """Yield the number of a fact in base units, and bare: 15 GiB is 16106127360 or 15, and 75 % is 0.75 or 75."""
    number = re.search(r"\d[\d,]*(?:\.\d+)?", fact)
    if number:
        value = float(number[0].replace(",", ""))
        yield value
        yield value * FACT_UNITS.get(fact[number.end() :].strip(), 1)


def with_list_replaced(page: Path, table: str) -> str:
    """Return a page with its list replaced. Raises ValueError if it has no place for one."""
    text, places = LIST_PATTERN.subn(lambda _: f"\n{table}\n", page.read_text())
    if places != 1:
        raise ValueError(f"{page} has {places} places for the list of alerts, instead of 1")
    return text


def with_heading_replaced(page: Path, alert: Alert) -> str:
    """Return a runbook with its first lines: alert, other language, index, shell, severity, and panel."""
    vietnamese = page.parent.name == "vi"
    other = f"[English](../{page.name})" if vietnamese else f"[Tiếng Việt](vi/{page.name})"
    index = (
        "[Tất cả runbook](README.md) · [Chuẩn bị shell](README.md#chuẩn-bị-shell)"
        if vietnamese
        else "[All runbooks](README.md) · [Set up your shell](README.md#set-up-your-shell)"
    )
    place = f"panel *{alert.panel}* · dashboard *{BOARD_TITLES[BOARD_UID_BY_PANEL[alert.panel]]}*"
    _, _, rest = page.read_text().partition("\n\n")
    _, _, rest = rest.partition("\n\n")
    return f"# {alert.name}\n\n{other} · {index} · {alert.severity} · {place}\n\n{rest}"


def _index_tables(language: int) -> str:
    """Return a table for each group of alerts."""
    return "\n".join(
        f"| {AREA_TITLES[group][language]} | {INDEX_HEADINGS[language]} |\n| --- | --- | --- |\n"
        + "".join(f"| [{each.name}]({each.runbook}) | {each.severity} | {each.short[language]} |\n" for each in alerts)
        for group, alerts in _alerts_by_group()
    )


def _exercise_table(language: int) -> str:
    """Return the table of what people break and repair in a drill."""
    breaks, repair = DRILL_HEADINGS[language]
    rows = (
        f"| {each.breaks[language]} | [{each.alert}]({runbook_of(each.alert)}) | {each.repair[language]} |\n"
        for signal in SIGNALS
        for each in signal.exercises
    )
    return f"| {breaks} | alert | {repair} |\n| --- | --- | --- |\n" + "".join(rows)


def _alerts_by_group() -> Iterable[tuple[str, tuple[Alert, ...]]]:
    return (
        (group, tuple(alert for signal in signals for alert in signal.alerts))
        for group, signals in SIGNALS_BY_GROUP.items()
    )
