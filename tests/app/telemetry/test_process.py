"""Metrics of the process: CPU, memory, threads, file descriptors, uptime and event loop lag."""

import gc
import os
import platform
import resource
import time

import psutil
import pytest

from support_service import __version__
from support_service.platform.telemetry.process import read_memory_limit
from tests.support.calls import eventually

LAG = "support_event_loop_lag_seconds"


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


async def test_cpu_time_is_counted_by_mode(metrics):
    """CPU time is that of this process, split into user and system, and never decreases."""
    before = {mode: metrics.value("process_cpu_time_seconds_total", cpu_mode=mode) for mode in ("user", "system")}
    sum(range(3_000_000))
    times = os.times()
    user = metrics.value("process_cpu_time_seconds_total", cpu_mode="user")
    assert 0 < before["user"] <= user
    assert user == pytest.approx(times.user, rel=0.1)
    assert before["system"] <= metrics.value("process_cpu_time_seconds_total", cpu_mode="system")


async def test_memory_threads_and_open_files_are_measured(metrics, tmp_path):
    """Memory and threads are plausible, and each open file counts once."""
    assert metrics.value("process_memory_usage_bytes") > 20 * 2**20
    assert metrics.value("process_threads") >= 1
    name = "process_unix_file_descriptors"
    for _ in range(20):  # the service may open or close its own files in between
        before = metrics.value(name)
        assert before > 3
        opened = [(tmp_path / f"{number}").open("w") for number in range(10)]
        more = metrics.value(name)
        for file in opened:
            file.close()
        after = metrics.value(name)
        if (more, after) == (before + 10, before):
            break
    else:
        pytest.fail(f"ten files made {before} {more}, and then {after}")


def test_memory_limit_is_that_of_the_container(tmp_path):
    """With either version of cgroups; without a limit it is the memory of the machine."""
    assert read_memory_limit(tmp_path) == psutil.virtual_memory().total
    (tmp_path / "memory").mkdir()
    for name, text, limit in (
        ("memory/memory.limit_in_bytes", "2097152\n", 2_097_152),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("memory.max", "1048576\n", 1_048_576),
        ("memory.max", "max\n", None),
    ):
        (tmp_path / name).write_text(text)
        assert read_memory_limit(tmp_path) == (limit or psutil.virtual_memory().total), text


async def test_limits_uptime_and_build_are_exposed(metrics):
    """Uptime is the time since the process started."""
    assert metrics.value("process_memory_limit_bytes") == read_memory_limit()
    assert metrics.value("process_unix_file_descriptor_limit") == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert metrics.value("support_clock_offset_seconds") == 0
    first = metrics.value("process_uptime_seconds")
    assert 0 < first < 24 * 3600
    assert metrics.value("process_uptime_seconds") > first
    labels = {"version": __version__, "python": platform.python_version()}
    assert metrics.label_sets("support_build_info") == [labels]
    assert metrics.value("support_build_info", **labels) == 1


async def test_garbage_collections_are_counted_by_generation(metrics):
    name = "cpython_gc_collections_total"
    assert sorted(given["cpython_gc_generation"] for given in metrics.label_sets(name)) == ["0", "1", "2"]
    before = metrics.value(name, cpython_gc_generation="1")
    # A collection does nothing while another thread is in one.
    await eventually(lambda: gc.collect(1) >= 0 and metrics.value(name, cpython_gc_generation="1") > before)


async def test_blocked_event_loop_is_measured_as_lag(metrics):
    """A blocked event loop counts as lag in each missed sample; an idle loop is sampled too."""
    await eventually(lambda: metrics.value(f"{LAG}_count") >= 1)
    on_time = metrics.value(f"{LAG}_bucket", le="0.025")
    late = metrics.value(f"{LAG}_count") - on_time
    time.sleep(0.6)  # noqa: ASYNC251 - the test blocks the loop on purpose
    await eventually(lambda: metrics.value(f"{LAG}_count") - metrics.value(f"{LAG}_bucket", le="0.025") >= late + 2)
    assert metrics.value(f"{LAG}_sum") >= 0.3
