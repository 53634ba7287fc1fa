"""Whether a deployment did its work for the whole of a soak: figures that do not grow prove little without load."""

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence

from tests.support.soak.figures import Sample

KINDS = ("cases", "streams", "imports")  # of work: what agents, followers and the operator count
QUARTERS = ((0.25, 0.5), (0.75, 1.0))  # the second and the last one, as shares of the time
LEAST_KEPT = 0.5  # of the work of the second quarter, in the last one: other programs may take a part of the machine
MOST_TURNED_AWAY = 0.03  # of all requests: 429 and 503, which clients repeat
ANSWERED = ("requests", "ended downloads", "streams")  # counts of requests with an answer


def errors_of_work(done: Mapping[str, Sequence[Sample]], counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence for each kind of work that has slowed down, and for too many requests that were turned away.

    `done` has the count of each kind from the start of the run.
    """
    for kind, samples in done.items():
        end = samples[-1].at
        second, last = (value_at(samples, to * end) - value_at(samples, since * end) for since, to in QUARTERS)
        if not last >= LEAST_KEPT * second > 0:
            yield f"{kind}: {last:,.0f} in the last quarter, and {second:,.0f} in the second one"
    share = counts["turned away"] / max(1, counts["turned away"] + sum(counts[name] for name in ANSWERED))
    if share > MOST_TURNED_AWAY:
        yield f"{share:.1%} of the requests were turned away, at most {MOST_TURNED_AWAY:.0%} may be"


def value_at(samples: Sequence[Sample], at: float) -> float:
    """Return the value at a time, in seconds from the start, on a straight line between two samples."""
    number = min(max(1, bisect(samples, at, key=lambda sample: sample.at)), len(samples) - 1)
    before, after = samples[number - 1], samples[number]
    return before.value + (after.value - before.value) * (at - before.at) / (after.at - before.at)
