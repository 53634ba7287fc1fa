"""The long forms of tests, which take minutes each: `make test-long` runs all of them, or the named ones.

`make test-all` has a short form of each. docs/performance.md says what both do. A variable of the environment replaces
the value of a table below: `CRASH_KILLS=90 make test-long ARGS=crash`.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass

PYTEST = (sys.executable, "-m", "pytest", "-p", "no:randomly", "--timeout", "7200", "-s")


@dataclass(frozen=True)
class Long:
    """The long form of some tests: their paths, and the variables that make them long."""

    paths: tuple[str, ...]
    variables: dict[str, str]
    options: tuple[str, ...] = ()  # of pytest

    def __str__(self) -> str:
        variables = (f"{name}={value}" for name, value in self.variables.items())
        return " ".join((*variables, "pytest", *self.paths, *self.options))

    def run(self) -> bool:
        """Run the tests; return whether all passed."""
        command = (*PYTEST, *self.paths, *self.options)
        return subprocess.run(command, env=self.variables | os.environ, check=False).returncode == 0


def long(*paths: str, options: tuple[str, ...] = (), **variables: float | str) -> Long:
    """Return the long form of the tests in files and folders below tests/."""
    given = {name: value if isinstance(value, str) else f"{value:g}" for name, value in variables.items()}
    return Long(tuple(f"tests/{path}" for path in paths), given, options)


LONG = {
    "load": long("app/test_memory_under_load.py", LOAD_ROUNDS=250),
    "soak": long("e2e/soak", SOAK_SECONDS=3600),
    "chaos": long("e2e/timeline/test_chaos.py", CHAOS_SECONDS=300),
    "crash": long("e2e/crash/test_crash.py", "e2e/crash/test_repeats.py", CRASH_KILLS=45),
    "import": long("e2e/crash/test_import_kills.py", IMPORT_KILLS=100),
    "retention": long("e2e/crash/test_retention_kills.py", RETENTION_KILLS=50),
    "bulk": long(
        *("app/api/test_bulk_model.py", "integration/cases/test_bulk_replicas.py", "e2e/crash/test_bulk_kills.py"),
        BULK_STEPS=500,
        BULK_ROUNDS=20,
        BULK_KILLS=25,
    ),
    "reports": long("e2e/reports", REPORT_KILLS=20, REPORT_WRITES=400),
    "snooze": long("e2e/crash/test_snooze_kills.py", SNOOZE_KILLS=30),
    "copy": long("e2e/commands/test_database_copy.py", COPY_CASES=300_000, COPY_KILLS=50),
    "client": long("e2e/client/test_faults.py", CLIENT_WORKERS=16, CLIENT_WRITES=200),
    "sign-in": long("e2e/access/test_sign_in.py", SIGN_IN_ROUNDS=20, SIGN_IN_PEOPLE=20),
    "restore": long(
        "e2e/commands/test_restore.py", "e2e/commands/test_backup.py", RESTORE_CASES=200, RESTORE_CHANGES=20
    ),
    "events": long("e2e/events/test_drill.py", DRILL_KILLS=100, DRILL_EVENTS=5000, DRILL_OUTAGE=20),
    "failover": long("e2e/events/test_failover.py", FAILOVERS=10),
    "stream": long(
        "e2e/stream",
        STREAM_SECONDS=600,
        STREAM_CLIENTS=200,
        STREAM_KILL_EVERY=20,
        STREAM_FREEZES=2,
        STREAM_FROZEN=20,
        STREAM_PAUSE=0.1,
    ),
    "answers": long("integration/console/test_tasks_case.py", options=("-k", "race"), ANSWER_RACES=200),
    "typing": long("integration/console/test_two_replicas.py", TYPING_ROUNDS=10),
    "mail": long("e2e/mail/test_gateway.py", options=("-k", "kills"), MAIL_KILLS=40, MAIL_MAILS=400),
    "day": long("e2e/day", DAY_STEPS=600, DAY_KILLS=20, DAY_CHECK_EVERY=20),
    "histories": long("e2e/histories", HISTORY_MINUTES=15),
    "schemathesis": long("e2e/api/test_schemathesis.py", SCHEMATHESIS_SECONDS=300),
    "refusals": long("app/guard/test_early_answers.py", REFUSALS=500),
    "properties": long(
        *("unit", "app/guard", "app/api/test_case_model.py"), options=("-m", "hypothesis"), PROPERTY_EXAMPLES=1000
    ),
    "races": long("unit", options=("-k", "in_any_order"), RACE_ORDERS=100_000),
    "database": long("integration/database/test_acknowledged_writes.py", DATABASE_WRITES=1500),
    "lists": long("integration/cases/test_case_list_at_scale.py", SCALE_CASES=40_000),
    "limits": long("integration/observability/test_limits.py", LIMIT_EVERY=1),
    "pushed": long("integration/observability/test_pushed_rules.py", PUSHED_FAULTS=1),
    "upgrade": long("e2e/upgrade", UPGRADE_SECONDS=10, UPGRADE_CLIENTS=8),
    "bench": long("e2e/benchmarks/test_bench.py", BENCH_SECONDS=0.1),
}


def main() -> int:
    """Run the long forms that are named; return the exit status, 1 if one failed."""
    parser = argparse.ArgumentParser(
        prog="make test-long",
        description=__doc__,
        epilog="names:\n" + "\n".join(f"  {name:13} {each}" for name, each in LONG.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to run, in this order; all without a name")
    names = parser.parse_args().names or [*LONG]
    if unknown := [name for name in names if name not in LONG]:
        parser.print_help(sys.stderr)
        parser.exit(2, f"\nunknown name: {', '.join(unknown)}\n")
    lines = []
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}: {LONG[name]}", flush=True)
        started = time.monotonic()
        passed = LONG[name].run()
        minutes, seconds = divmod(round(time.monotonic() - started), 60)
        lines.append(f"{name:13} {'passed' if passed else 'FAILED'} after {minutes} min {seconds} s")
        print(f"\n{lines[-1]}\n", flush=True)
    print(*lines, sep="\n")
    return int(any("FAILED" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
