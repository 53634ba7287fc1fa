"""Results as tables for people and as figures for programs."""

import math
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.load_generator import Sample
from benchmarks.measure import LARGE_MIB, Cold, Large, Round
from benchmarks.offload import FILES, Huge, Offload

LARGE_BUDGET_MIB = 8
COLD_BUDGET = 3.0  # multiple of one round trip to an upstream service
OFFLOAD_BUDGET = 0.5  # multiple of the files per second of a bare copy loop
HUGE_BUDGET_MIB = 150
BACKLOG_BUDGET = 1.10  # multiple of the CPU time of an upload without a backlog

Figures = dict[str, Any]
SIDES = ("service", "baseline", "floor", "peer")
SIDES_MS = ("service, ms", "bare, ms", "floor, ms", "peer, ms")
LATENCY = ("p50, ms", "p99, ms", "requests/s", "errors")


def figures(found: list[Round]) -> Figures:
    """Return the medians over the rounds; of the floor and of the peer only if they ran."""
    result: Figures = {"ratio": statistics.median(each.service.cpu_ms / each.baseline.cpu_ms for each in found)}
    if floors := [(each.service, each.floor) for each in found if each.floor is not None]:
        result["floor_ratio"] = statistics.median(service.cpu_ms / floor.cpu_ms for service, floor in floors)
    if peers := [(each.service, each.peer) for each in found if each.peer is not None]:
        result["peer_ratio"] = statistics.median(peer.cpu_ms / service.cpu_ms for service, peer in peers)
    for side in SIDES:
        if samples := [sample for each in found if (sample := getattr(each, side)) is not None]:
            result[side] = _of(samples)
    return result


def missed(result: Figures, budgets: dict[str, float]) -> list[str]:
    """Return which of the budgets of `Scenario.budgets` a comparison misses."""
    measured = {"bare": result["ratio"], "floor": result["floor_ratio"], "ms": result["service"]["cpu_ms"]}
    exceeded = {name for name, value in measured.items() if value > budgets.get(name, math.inf)}
    if result["peer_ratio"] < budgets.get("peer", 0):
        exceeded.add("peer")
    return [name for name in budgets if name in exceeded]


def _of(samples: list[Sample]) -> Figures:
    def median(figure: Callable[[Sample], float]) -> float:
        return statistics.median(map(figure, samples))

    return {
        "cpu_ms": median(lambda sample: sample.cpu_ms),
        "database_cpu_ms": median(lambda sample: sample.database_cpu_ms),
        "resident_mib": median(lambda sample: sample.resident_mib),
        "p50_ms": median(lambda sample: sample.percentile_ms(0.50)),
        "p99_ms": median(lambda sample: sample.percentile_ms(0.99)),
        "requests_per_second": median(lambda sample: len(sample.latencies) / sample.seconds),
        "requests": sum(len(sample.latencies) for sample in samples),
        "errors": dict(sum((sample.errors for sample in samples), Counter[str]())),
    }


def verdict(value: float, budget: float | None) -> str:
    """Return `ok` if a figure keeps its budget, `miss` if not, and `-` without a budget."""
    return "-" if budget is None else "ok" if value <= budget else "miss"


def cpu_table(results: list[Figures]) -> str:
    """Return one line per scenario: the CPU of each server, and the ratios with their budgets."""
    head = ["scenario", *SIDES_MS, "service/bare (budget)", "service/floor (budget)", "peer/service (budget)", "missed"]
    rows = []
    for result in results:
        budgets = result["budgets"]
        ratios = {"bare": result["ratio"], "floor": result["floor_ratio"], "peer": result["peer_ratio"]}
        judged = [f"{ratio:.2f}x ({_budget(budgets.get(name))})" for name, ratio in ratios.items()]
        rows.append([result["scenario"], *_times(result, *SIDES), *judged, ", ".join(result["missed"]) or "-"])
    return _table(head, rows)


def latency_table(results: list[Figures]) -> str:
    """Return one line per scenario: memory and latency of the service."""
    rows = [[result["scenario"], f"{result['service']['resident_mib']:.0f}", *_latency(result)] for result in results]
    return _table(["scenario", "MiB", *LATENCY], rows)


def database_table(results: list[Figures]) -> str:
    """Return one line per scenario: PostgreSQL's own CPU for a request of each server."""
    rows = [[result["scenario"], *(f"{result[side]['database_cpu_ms']:.3f}" for side in SIDES)] for result in results]
    return _table(["scenario", *SIDES_MS], rows)


def scenario_table(results: list[Figures]) -> str:
    """Return one line per scenario: CPU against the baseline and the budget, then the service's latency."""
    head = ["scenario", "service, ms", "baseline, ms", "ratio", "budget", "verdict", *LATENCY]
    return _table(head, [[result["scenario"], *_against_baseline(result), *_latency(result)] for result in results])


def backlog_table(results: list[Figures]) -> str:
    """Return one line per level: CPU of an upload relative to the first level, and the baseline, which shows drift."""
    head = ["stored", "service, ms", "baseline, ms", "relative", "budget", "verdict", *LATENCY]
    rows = []
    for result in results:
        share = result["service"]["cpu_ms"] / results[0]["service"]["cpu_ms"]
        judged = [f"{share:.2f}x", f"{BACKLOG_BUDGET:.2f}x", verdict(share, BACKLOG_BUDGET)]
        rows.append([f"{result['stored']:,}", *_times(result), *judged, *_latency(result)])
    return _table(head, rows)


def large_line(large: Large) -> str:
    """Return the result of a large upload in one line."""
    growth = f"{large.growth_mib:.1f} MiB, budget {LARGE_BUDGET_MIB}, {verdict(large.growth_mib, LARGE_BUDGET_MIB)}"
    return f"upload of {LARGE_MIB} MiB: {large.mib_per_second:.0f} MiB/s, peak memory grew by {growth}"


def cold_line(cold: Cold) -> str:
    """Return the latency of a cold read without other load in one line."""
    ratio = cold.read_ms / cold.call_ms
    judged = f"{ratio:.2f}x, budget {COLD_BUDGET:g}x, {verdict(ratio, COLD_BUDGET)}"
    return f"cold read, p99: {cold.read_ms:.1f} ms, of one call to a service behind: {cold.call_ms:.1f} ms: {judged}"


def offload_line(found: Offload) -> str:
    """Return the rate at which small files move in one line."""
    ratio = found.service / found.copied
    return (
        f"offload of {FILES:,} files: {found.service:.0f} a second; a bare copy loop {found.copied:.0f}, one that "
        f"reads back {found.copied_and_read:.0f}; {ratio:.2f} of the first, budget {OFFLOAD_BUDGET}, "
        f"{'ok' if ratio >= OFFLOAD_BUDGET else 'miss'}"
    )


def huge_line(found: Huge) -> str:
    """Return the result for 2 GiB in one line."""
    rates = ", ".join(f"{rate:.0f} MiB/s {step}" for step, rate in found.rates.items())
    peaks = ", ".join(
        f"{name} {peak:.0f} MiB, budget {HUGE_BUDGET_MIB}, {verdict(peak, HUGE_BUDGET_MIB)}"
        for name, peak in found.peaks.items()
    )
    return f"2 GiB: {rates}; peak memory: {peaks}"


def errors(result: Figures) -> Counter[str]:
    """Count the failed requests of one comparison by kind, on all its servers."""
    return sum((Counter(result[side]["errors"]) for side in SIDES if side in result), Counter[str]())


def _against_baseline(result: Figures) -> list[str]:
    ratio, budget = result["ratio"], result["budget"]
    return [*_times(result), f"{ratio:.2f}x", _budget(budget), verdict(ratio, budget)]


def _budget(budget: float | None) -> str:
    return "-" if budget is None else f"{budget:.3g}x"


def _times(result: Figures, *sides: str) -> list[str]:
    return [f"{result[side]['cpu_ms']:.3f}" for side in sides or ("service", "baseline")]


def _latency(result: Figures) -> list[str]:
    service = result["service"]
    times = [f"{service[key]:.1f}" for key in ("p50_ms", "p99_ms")]
    return [*times, f"{service['requests_per_second']:.0f}", str(errors(result).total())]


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, so that documents can take it as it is."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
