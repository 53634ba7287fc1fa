"""What queries name, and what there is."""

import re
from pathlib import Path

from support_service.telemetry import instruments

TABLE = (*instruments.INSTRUMENTS, *instruments.PROBE_INSTRUMENTS)
ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "observability" / "prometheus" / "rules").glob("*.yaml"))
NAME = re.compile(
    r"\b(?:support|http_server|db_client|process|cpython)_[a-z0-9_]+\b|\b(?:support|source|service):[\w:]+"
)
PLACES = re.compile(r"\{[^}]*\}|\b(?:by|on|ignoring|without|group_left|group_right) ?\([^)]*\)")
SUFFIXES = ("_bucket", "_sum", "_count")


def known() -> set[str]:
    """Every series that an instrument or a recording rule makes, without what a histogram's samples append."""
    recorded = {name for path in RULES for name in re.findall(r"record: (\S+)", path.read_text())}
    return {row.prometheus for row in TABLE} | recorded


def names(expr: str) -> set[str]:
    """The series that a query asks for, without what a histogram's samples append."""
    return {family(name) for name in NAME.findall(PLACES.sub(" ", expr))}


def family(name: str) -> str:
    """A sample's name without what a histogram appends, where a histogram has that name."""
    histograms = {row.prometheus for row in TABLE if row.kind == "histogram"}
    for suffix in SUFFIXES:
        bare = name.removesuffix(suffix)
        if bare != name and bare in histograms:
            return bare
    return name
