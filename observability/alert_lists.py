"""What pages have of signals: lists of alerts, the table of a drill by hand, and the head of each runbook.

A list stands between two comments in its page. What is outside of them is written by hand, and states the thresholds.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from grafana.rows import BOARDS, PLACES

from observability.rules import GROUPS
from observability.signal import Alert, runbook_of
from observability.signals import ALERTS, SIGNALS

ROOT = Path(__file__).parent.parent
RUNBOOKS = ROOT / "runbooks"
MONITORING = ROOT / "docs" / "operations" / "monitoring.md"
BEGIN, END = "<!-- alerts: written by `make observability` -->\n", "<!-- end of alerts -->\n"
LISTED = re.compile(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", re.DOTALL)
TITLES = {board.uid: board.title for board in BOARDS}
# Titles of the groups of alerts, in English and Vietnamese.
AREAS = {
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
FIRES = (
    re.compile(r"^\*\*Fires\*\* when (.*?)^\*\*Impact\*\*: ", re.DOTALL | re.MULTILINE),
    re.compile(r"^\*\*Kích hoạt\*\* khi (.*?)^\*\*Ảnh hưởng\*\*: ", re.DOTALL | re.MULTILINE),
)
UNITS = ({"s": "s", "m": "minute", "h": "hour", "d": "day"}, {"s": "s", "m": "phút", "h": "giờ", "d": "ngày"})
BREAKS = (("break", "repair"), ("phá", "sửa"))
HEADINGS = ("severity | in short", "mức độ | tóm tắt")


def files() -> dict[Path, str]:
    """Return every page with a list of alerts, with its current text."""
    index, index_vi = RUNBOOKS / "README.md", RUNBOOKS / "vi" / "README.md"
    pages = {index: listed(index, _index(0)), index_vi: listed(index_vi, _index(1))}
    pages[MONITORING] = listed(MONITORING, "\n".join(_documented()) + "\n")
    for language, page in enumerate((RUNBOOKS / "drill.md", RUNBOOKS / "vi" / "drill.md")):
        pages[page] = listed(page, _exercises(language))
    for alert in ALERTS:
        for path in (RUNBOOKS / alert.runbook, RUNBOOKS / "vi" / alert.runbook):
            if path.exists():  # a test names the missing files
                pages[path] = headed(path, alert)
    return pages


def unstated() -> list[str]:
    """Return a line for each runbook that does not state what the signal says about the alert's threshold."""
    found = []
    for alert in ALERTS:
        for language, folder in enumerate((RUNBOOKS, RUNBOOKS / "vi")):
            page = folder / alert.runbook
            part = FIRES[language].search(page.read_text()) if page.exists() else None
            fires = " ".join(part[1].split()) if part else ""
            for fact in alert.stated:
                number, unit = fact[:-1], fact[-1:]
                written = f"{number} {UNITS[language][unit]}" if number.isdigit() and unit in UNITS[language] else fact
                if written not in fires:
                    found.append(f"{page.relative_to(ROOT)} does not state {written!r}, the threshold of {alert.name}")
    return found


def listed(page: Path, table: str) -> str:
    """Return a page with its list replaced. Raises ValueError if it has no place for one."""
    text, places = LISTED.subn(lambda _: f"\n{table}\n", page.read_text())
    if places != 1:
        raise ValueError(f"{page} has {places} places for the list of alerts, instead of 1")
    return text


def headed(page: Path, alert: Alert) -> str:
    """Return a runbook with its first lines: the alert, the other language, the index, severity, and the panel."""
    vietnamese = page.parent.name == "vi"
    other = f"[English](../{page.name})" if vietnamese else f"[Tiếng Việt](vi/{page.name})"
    index = "[Tất cả runbook](README.md)" if vietnamese else "[All runbooks](README.md)"
    place = f"panel *{alert.panel}* · dashboard *{TITLES[PLACES[alert.panel]]}*"
    _, _, rest = page.read_text().partition("\n\n")
    _, _, rest = rest.partition("\n\n")
    return f"# {alert.name}\n\n{other} · {index} · {alert.severity} · {place}\n\n{rest}"


def _index(language: int) -> str:
    """Return a table for each group of alerts."""
    return "\n".join(
        f"| {AREAS[group][language]} | {HEADINGS[language]} |\n| --- | --- | --- |\n"
        + "".join(f"| [{each.name}]({each.runbook}) | {each.severity} | {each.short[language]} |\n" for each in alerts)
        for group, alerts in _groups()
    )


def _exercises(language: int) -> str:
    """Return the table of what people break and repair in a drill."""
    breaks, repair = BREAKS[language]
    rows = (
        f"| {each.breaks[language]} | [{each.alert}]({runbook_of(each.alert)}) | {each.repair[language]} |\n"
        for signal in SIGNALS
        for each in signal.exercises
    )
    return f"| {breaks} | alert | {repair} |\n| --- | --- | --- |\n" + "".join(rows)


def _documented() -> Iterable[str]:
    """Yield the lines of the table of the documentation."""
    yield "| alert | severity | fires after | in short | panel |"
    yield "| --- | --- | --- | --- | --- |"
    for _, alerts in _groups():
        for each in alerts:
            page = f"[{each.name}](../../runbooks/{each.runbook})"
            panel = f"*{each.panel}*, {TITLES[PLACES[each.panel]]}"
            yield f"| {page} | {each.severity} | {each.for_} | {each.short[0]} | {panel} |"


def _groups() -> Iterable[tuple[str, tuple[Alert, ...]]]:
    return ((group, tuple(alert for signal in signals for alert in signal.alerts)) for group, signals in GROUPS.items())
