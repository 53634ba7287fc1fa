"""Measurements: a scenario on each server, memory during a large upload, uploads with a backlog, and cold reads."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import uvloop

from benchmarks import effects, process_stats, scenarios
from benchmarks.environment import Environment, Server
from benchmarks.load_generator import Client, Failed, Sample
from benchmarks.scenarios import Scenario

FILES_PER_CASE = 5  # in a backlog
BACKLOG_UPLOADS = 1000  # per run on a backlog; few enough that measuring hardly adds to it
LARGE_MIB = 512
COLD_READS = 20  # consecutive reads before the other server's turn


@dataclass(frozen=True, slots=True)
class Load:
    """The load of a measurement: connections, seconds, rounds, and cases over which the requests are spread."""

    connections: int
    seconds: float
    rounds: int
    cases: int


@dataclass(frozen=True, slots=True)
class Round:
    """One scenario on each server, one after the other."""

    service: Sample
    baseline: Sample
    floor: Sample | None = None
    peer: Sample | None = None


@dataclass(frozen=True, slots=True)
class Large:
    """The result of one large upload."""

    growth_mib: float
    mib_per_second: float
    errors: Counter[str]


@dataclass(frozen=True, slots=True)
class Cold:
    """The 99th percentiles in ms of a cold read and of one round trip to an upstream service."""

    read_ms: float
    call_ms: float
    errors: Counter[str]


Progress = Callable[[str], None]


def rounds(env: Environment, selected: list[Scenario], load: Load, progress: Progress) -> dict[str, list[Round]]:
    """Run every scenario in every round and return the rounds by scenario name.

    The servers take turns in going first, so that drift affects all alike. Raises Failed if an answer lacks what the
    scenario checks, except of the bare server. Raises it, too, if what was written to the service can't be read.
    """
    for server in (env.service, env.floor, env.peer):
        if server:
            uvloop.run(check(server, selected))
    uvloop.run(effects.check(env.service))
    found: dict[str, list[Round]] = {scenario.name: [] for scenario in selected}
    for number in range(load.rounds):
        for scenario in selected:
            samples: dict[str, Sample] = {}
            for server in env.compared if number % 2 == 0 else reversed(env.compared):
                progress(f"round {number + 1} of {load.rounds}: {scenario.name}, {server.name}")
                samples[server.name] = uvloop.run(_run(env, server, scenario, load))
            found[scenario.name].append(Round(**samples))
    return found


async def check(server: Server, selected: list[Scenario]) -> None:
    """Send each request once, and check what its answer contains."""
    async with Client(server.port, 1, server.header) as client:
        for scenario in selected:
            if (check := scenarios.CHECKS.get(scenario.name)) is None:
                continue
            [case] = await _cases(client, 1)
            await client.bodies(scenario.warm(case))
            [body] = await client.bodies([scenario.request(case, 0)])
            found = check(json.loads(body))
            if found != scenarios.EXPECTED[scenario.name]:
                raise Failed(f"{server.name}: {scenario.name} answered {found!r}: {body[:500]!r}")


async def _run(env: Environment, server: Server, scenario: Scenario, load: Load) -> Sample:
    limit = scenario.limit or math.inf
    async with Client(server.port, load.connections, server.header) as client:
        cases = await _cases(client, load.cases)
        await client.bodies(itertools.chain.from_iterable(map(scenario.warm, cases)))
        requests = (scenario.request(cases[number % load.cases], number) for number in itertools.count())
        await client.drive(requests, seconds=load.seconds / 4, limit=limit)
        before, database_before = server.cpu_seconds(), env.databases.cpu_seconds()
        sample = await client.drive(requests, seconds=load.seconds, limit=limit)
        sample.cpu_seconds = server.cpu_seconds() - before
        sample.database_cpu_seconds = sum(
            seconds - database_before.get(pid, 0.0) for pid, seconds in env.databases.cpu_seconds().items()
        )
        sample.resident_mib = server.resident_mib()
        return sample


async def _cases(client: Client, count: int) -> list[str]:
    return [json.loads(body)["id"] for body in await client.bodies(map(scenarios.create, range(count)))]


def cold_reads(env: Environment, load: Load, progress: Progress) -> Cold:
    """Measure consecutive cold reads, in turn with single calls to an upstream service."""
    progress("cold reads one after another")
    return uvloop.run(_cold_reads(env, load))


async def _cold_reads(env: Environment, load: Load) -> Cold:
    async with Client(env.service.port, 1) as client, Client(env.upstream_stub.port, 1) as upstream:
        read, call = Sample(), Sample()
        turns = load.rounds * 10
        # None of these cases has been read before.
        reads = map(scenarios.timeline, await _cases(client, turns * COLD_READS))
        calls = itertools.repeat(scenarios.plain("GET", "/orders/101"))
        for _ in range(turns):
            for loop, requests, sample in ((client, reads, read), (upstream, calls, call)):
                part = await loop.drive(requests, seconds=math.inf, limit=COLD_READS)
                sample.latencies += part.latencies
                sample.errors += part.errors
        return Cold(read.percentile_ms(0.99), call.percentile_ms(0.99), read.errors + call.errors)


def large_upload(server: Server, progress: Progress) -> Large:
    """Upload one file of LARGE_MIB. A small upload goes first, so that memory kept by every upload is not counted."""
    progress(f"one upload of {LARGE_MIB} MiB")
    return uvloop.run(_large_upload(server))


async def _large_upload(server: Server) -> Large:
    async with Client(server.port, 1) as client:
        [case] = await _cases(client, 1)
        await client.bodies([scenarios.upload(case)])
        process_stats.reset_peak(server.pid)
        before = process_stats.resident_mib(server.pid)
        sample = await client.drive(iter([scenarios.upload(case, LARGE_MIB << 20)]), seconds=math.inf, limit=1)
        return Large(process_stats.peak_mib(server.pid) - before, LARGE_MIB / sample.seconds, sample.errors)


def backlog(
    env: Environment, levels: tuple[int, ...], load: Load, progress: Progress
) -> Iterator[tuple[int, list[Round]]]:
    """Run the upload scenario with growing numbers of stored files, and yield each level with its rounds."""
    scenario = replace(scenarios.ALL["upload"], limit=BACKLOG_UPLOADS)
    stored = 0
    for level in levels:
        progress(f"storing files up to {level:,}")
        uvloop.run(_store(env.service, level - stored))
        found = rounds(env, [scenario], load, progress)
        yield level, found[scenario.name]
        stored = level + sum(len(each.service.latencies) for each in found[scenario.name])


async def _store(server: Server, files: int) -> None:
    """Store small files, FILES_PER_CASE in each case."""
    async with Client(server.port, 8) as client:
        cases = await _cases(client, math.ceil(max(0, files) / FILES_PER_CASE))
        await client.bodies(scenarios.upload(case, size=1024) for case in cases for _ in range(FILES_PER_CASE))
