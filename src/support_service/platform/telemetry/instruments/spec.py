"""The specification of an instrument with its labels, and the creation of instruments that are observed."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation

PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes"}  # units in braces, and 1, do not appear in a Prometheus name
Observations = Iterable[tuple[int | float, Mapping[str, str]]]
"""The current values of an observed instrument, one per label set; empty while they are unknown."""
OTHER = "other"  # the label value that stands for every value outside of a closed vocabulary


@dataclass(frozen=True, slots=True)
class InstrumentSpec:
    """One instrument. A label with the values None has an open vocabulary, set by the service and never by a client.

    If `seeded` is true, a series for every combination of label values exists from the start. If it is false, the
    code that knows the possible combinations creates the series.
    """

    name: str
    kind: Literal["counter", "histogram", "gauge", "observed counter", "observed sum"]
    unit: str
    meaning: str
    labels: Mapping[str, Sequence[str] | None]
    buckets: Sequence[float] = ()
    seeded: bool = True

    @property
    def prometheus(self) -> str:
        """The metric family's name in the Prometheus text format, without the suffixes of histogram samples."""
        name = self.name.replace(".", "_")
        unit = PROMETHEUS_UNITS.get(self.unit)
        if unit and not name.endswith(f"_{unit}"):
            name = f"{name}_{unit}"
        return f"{name}_total" if self.kind in ("counter", "observed counter") else name

    def series(self) -> list[dict[str, str]]:
        """Return every combination of label values; empty if a label's vocabulary is open or `seeded` is false."""
        if not self.seeded or any(values is None for values in self.labels.values()):
            return []
        combinations = product(*(values or () for values in self.labels.values()))
        return [dict(zip(self.labels, values, strict=True)) for values in combinations]


def observe(meter: Meter, row: InstrumentSpec, read: Callable[[], Observations]) -> None:
    """Create an instrument that calls `read` for its values at each scrape and each export.

    `read` runs in the metric reader's thread: it must return known values and never block.
    """

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, series) for value, series in read()]

    create = {
        "gauge": meter.create_observable_gauge,
        "observed counter": meter.create_observable_counter,
        "observed sum": meter.create_observable_up_down_counter,
    }[row.kind]
    create(row.name, [callback], unit=row.unit, description=row.meaning)


def known_or_other(value: str, vocabulary: Collection[str]) -> str:
    """Return the value if the vocabulary contains it, else `other`.

    A value from a client, such as a channel, goes through this, so that clients can't create series.
    """
    return value if value in vocabulary else OTHER
