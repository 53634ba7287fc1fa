"""Measure the service beside three others on the same requests, in one run, and print a table.

A bare server does the least possible. The floor does the service's work on database and disk without its features. The
peer is an ordinary FastAPI service. Figures are ratios of CPU time per request, because absolute times depend on the
machine. A missed budget is reported; a failed request makes the exit status 1.
"""

import argparse
import contextlib
import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import authentication, configurations, measure, offload, report, scenarios, scrape_delay
from benchmarks.configurations import Configuration
from benchmarks.environment import environment
from benchmarks.load_generator import Failed
from benchmarks.measure import Load

LEVELS = (0, 10_000, 50_000)
DELAY = 0.01  # seconds that the stub upstream services take to answer
AUTH_BUDGET = 1.15  # multiple of the CPU time of a read from an open service
METRICS_BUDGET = 1.12  # multiple of the CPU time of a read with metrics off
REPLICAS_BUDGET = 1.15  # multiple of the CPU time of a request to one replica


def main() -> int:
    """Run the selected benchmarks and return the exit status."""
    arguments = parse_arguments()
    load = Load(arguments.connections, arguments.seconds, arguments.rounds, arguments.cases)
    gc.disable()  # a collection's pause in the client would count as latency
    results: report.Figures = {"connections": load.connections, "seconds": load.seconds, "rounds": load.rounds}
    try:
        if arguments.scenarios:
            results["scenarios"] = _scenarios(arguments.scenarios, arguments.configurations, load)
        for name, measured in PARTS.items():
            if arguments.all or getattr(arguments, name):
                results[name] = measured(load)
    except Failed as failure:
        _progress("")
        print(f"benchmark: {failure}", file=sys.stderr)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    failures = _failures(results)
    if failures:
        print(f"benchmark: requests failed: {dict(failures)}", file=sys.stderr)
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    """Return the arguments with the configurations that they select."""
    parser = _parser()
    arguments = parser.parse_args()
    databases = arguments.database or (["postgresql"] if max(arguments.replicas) > 1 else ["sqlite"])
    try:
        selected = configurations.combine(databases, arguments.replicas, protected=arguments.protected)
    except ValueError as error:
        parser.error(str(error))
    arguments.configurations = configurations.ALL if arguments.all else selected
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--scenarios",
        type=partial(_names, "scenario", tuple(scenarios.ALL)),
        default=list(scenarios.ALL),
        metavar="NAME,…",
        help=f"some of {', '.join(scenarios.ALL)} (default: all; empty: none)",
    )
    parser.add_argument(
        "--database",
        type=partial(_names, "database", configurations.DATABASES),
        metavar="NAME,…",
        help="sqlite, postgresql or both (default: sqlite; postgresql with several replicas)",
    )
    parser.add_argument(
        "--protected", action="store_true", help="the service requires tokens and counts requests against rate limits"
    )
    parser.add_argument(
        "--replicas",
        type=_counts,
        default=[1],
        metavar="NUMBER,…",
        help="processes of the service; several behind one port, such as 2,4, are compared with one (default: 1)",
    )
    every = "; ".join(map(str, configurations.ALL))
    parser.add_argument("--all", action="store_true", help=f"all that follows, and the scenarios with: {every}")
    parser.add_argument("--large", action="store_true", help=f"also memory during an upload of {measure.LARGE_MIB} MiB")
    parser.add_argument(
        "--backlog", action="store_true", help=f"also uploads with {', '.join(f'{n:,}' for n in LEVELS)} files stored"
    )
    cold = f"also consecutive cold reads, with upstream services that take {DELAY * 1000:g} ms"
    parser.add_argument("--cold", action="store_true", help=cold)
    parser.add_argument(
        "--unmeasured", action="store_true", help="also reads with metrics on, compared with metrics off"
    )
    parser.add_argument(
        "--auth", action="store_true", help="also reads with a token and with a JWT, compared with SUPPORT_AUTH=open"
    )
    parser.add_argument(
        "--scrapes", action="store_true", help=f"also event loop delay during {scrape_delay.SCRAPES} concurrent scrapes"
    )
    parser.add_argument(
        "--offload", action="store_true", help="also offload of small files to S3, compared with a bare copy loop"
    )
    parser.add_argument(
        "--huge", action="store_true", help="also memory during upload, offload and download of a file of 2 GiB"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of rounds; results are their median (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=2.5, help="seconds per measurement (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="concurrent connections (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=256, help="cases of each run (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    return parser


def _names(kind: str, known: Sequence[str], text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {kind} {unknown[0]!r}: expected some of {', '.join(known)}")
    return names


def _counts(text: str) -> list[int]:
    counts = [int(count) for count in text.split(",") if count.isdecimal()]
    if len(counts) != len(text.split(",")) or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"invalid numbers {text!r}: expected whole numbers from 1, such as 2,4")
    return counts


def _scenarios(names: list[str], selected: Sequence[Configuration], load: Load) -> list[report.Figures]:
    return [result for configuration in selected for result in _configuration(names, configuration, load)]


def _configuration(names: list[str], configuration: Configuration, load: Load) -> list[report.Figures]:
    selected = [scenarios.ALL[name] for name in names]
    is_alone = configuration.replicas == 1
    busy = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        auth = None
        if configuration.protected:
            auth = stack.enter_context(authentication.authentication(authentication.PROTECTED))
        servers = stack.enter_context(environment(configuration, auth=auth, others=is_alone))
        found = measure.rounds(servers, selected, load, _progress)
    results = []
    for each in selected:
        result = {"configuration": str(configuration), "load": busy, "scenario": each.name}
        result |= report.figures(found[each.name])
        if is_alone:
            budgets = {} if configuration.protected else each.budgets(configuration.database)
            result |= {"budgets": budgets, "missed": report.missed(result, budgets)}
        else:
            result["budget"] = REPLICAS_BUDGET
        results.append(result)
    title = f"{configuration}: CPU of a request at {load.connections} connections; 1-minute load before: {busy:.1f}"
    if is_alone:
        _show(report.cpu_table(results), title)
        _show(report.latency_table(results), f"{configuration}: memory and latency of the service")
        if configuration.database == "postgresql":
            _show(report.database_table(results), f"{configuration}: PostgreSQL's own CPU of a request")
    else:
        _show(report.scenario_table(results), f"{title}; baseline: 1 replica")
    return results


def _large(_: Load) -> report.Figures:
    with environment() as servers:
        large = measure.large_upload(servers.service, _progress)
    _show(report.large_line(large))
    return {"growth_mib": large.growth_mib, "mib_per_second": large.mib_per_second, "errors": dict(large.errors)}


def _backlog(load: Load) -> list[report.Figures]:
    with environment() as servers:
        found = list(measure.backlog(servers, LEVELS, load, _progress))
    results = [{"stored": stored, **report.figures(rounds)} for stored, rounds in found]
    _show(report.backlog_table(results), "CPU of an upload by number of stored files, relative to none")
    return results


def _cold(load: Load) -> report.Figures:
    with environment(delay=DELAY) as servers:
        cold = measure.cold_reads(servers, load, _progress)
    _show(report.cold_line(cold))
    return {"read_p99_ms": cold.read_ms, "call_p99_ms": cold.call_ms, "errors": dict(cold.errors)}


def _unmeasured(load: Load) -> list[report.Figures]:
    read = replace(scenarios.ALL["get"], budget=METRICS_BUDGET)
    with environment(baseline_env={"OTEL_METRICS_EXPORTER": "none"}) as servers:
        found = measure.rounds(servers, [read], load, _progress)
    results = [{"scenario": read.name, "budget": read.budget, **report.figures(found[read.name])}]
    _show(report.scenario_table(results), "CPU of a request with metrics on; baseline: metrics off")
    return results


def _auth(load: Load) -> list[report.Figures]:
    results = []
    for method in authentication.METHODS:
        read = replace(scenarios.ALL["get"], name=f"get, {method}", budget=AUTH_BUDGET)
        with authentication.authentication(method) as auth, environment(baseline_env={}, auth=auth) as servers:
            found = measure.rounds(servers, [read], load, _progress)
        results.append({"scenario": read.name, "budget": read.budget, **report.figures(found[read.name])})
    _show(report.scenario_table(results), "CPU of a request with authentication; baseline: SUPPORT_AUTH=open")
    return results


def _scrapes(_: Load) -> report.Figures:
    done = subprocess.run([sys.executable, "-m", "benchmarks.scrape_delay"], check=True, capture_output=True, text=True)
    found: report.Figures = json.loads(done.stdout)
    verdict = "ok" if found["typical"] <= scrape_delay.BUDGET_MS else "missed"
    _show(
        f"{scrape_delay.SCRAPES} concurrent scrapes of {found['series']} series: longest event loop delay "
        f"{found['typical']} ms (median of {found['longest']}, without scrapes {found['idle']}; "
        f"budget {scrape_delay.BUDGET_MS:g} ms: {verdict})"
    )
    return found


def _offload(_: Load) -> report.Figures:
    found = offload.offload(_progress)
    _show(report.offload_line(found))
    return asdict(found)


def _huge(_: Load) -> report.Figures:
    found = offload.huge(_progress)
    _show(report.huge_line(found))
    return asdict(found)


PARTS: dict[str, Callable[[Load], Any]] = {
    "large": _large,
    "backlog": _backlog,
    "cold": _cold,
    "unmeasured": _unmeasured,
    "auth": _auth,
    "scrapes": _scrapes,
    "offload": _offload,
    "huge": _huge,
}


def _failures(results: report.Figures) -> Counter[str]:
    """Count the failed requests of all results by kind."""
    compared = [each for part in ("scenarios", "backlog", "unmeasured", "auth") for each in results.get(part, [])]
    single = [Counter(results[part]["errors"]) for part in ("large", "cold") if part in results]
    return sum((*map(report.errors, compared), *single), Counter())


def _show(text: str, title: str = "") -> None:
    _progress("")
    print("\n".join(filter(None, (title, text))), end="\n\n", flush=True)


def _progress(text: str) -> None:
    """Show the progress in one line that is overwritten."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
