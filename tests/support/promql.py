"""The series that PromQL queries use, and the series that exist."""

import re
from pathlib import Path

from observability.catalogue import INSTRUMENTS, PROBE_INSTRUMENTS

TABLE = (*INSTRUMENTS, *PROBE_INSTRUMENTS)
ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "observability" / "prometheus" / "rules").glob("*.yaml"))
NAME = re.compile(
    r"\b(?:support|http_server|db_client|process|cpython)_[a-z0-9_]+\b|\b(?:support|source|service|route|instance):[\w:]+"
)
LABEL_LISTS = re.compile(r"\{[^}]*\}|\b(?:by|on|ignoring|without|group_left|group_right) ?\([^)]*\)")
SUFFIXES = ("_bucket", "_sum", "_count")


def known_series() -> set[str]:
    """Return the series of all instruments and recording rules, without suffixes of histograms."""
    recorded = {name for path in RULES for name in re.findall(r"record: (\S+)", path.read_text())}
    return {row.prometheus_name for row in TABLE} | recorded


def queried_series(expr: str) -> set[str]:
    """Return the series that a query uses, without suffixes of histograms."""
    return {series_family(name) for name in NAME.findall(LABEL_LISTS.sub(" ", expr))}


def series_family(name: str) -> str:
    """Return the name of a sample without the suffix of a histogram."""
    histograms = {row.prometheus_name for row in TABLE if row.kind == "histogram"}
    for suffix in SUFFIXES:
        bare = name.removesuffix(suffix)
        if bare != name and bare in histograms:
            return bare
    return name
