"""SupportStreamLagHigh: open streams show changes late."""

from functools import partial

from grafana.panel import Panel, Query, highest_over_replicas, quantile, rate, total_over_replicas

from observability.drill import Cause, DrillFault
from observability.faults import CounterValues, Fault, GaugeValues
from observability.signal import SYMPTOM_FOR, WINDOW, Alert, Signal, highest_label_template, scaled_seconds
from observability.signals.events_consumer_stalled import command_is_refused

STREAM_LAG_P95 = 2.0  # s; twenty times the usual, and agents answer what is outdated by then
STREAM_INTERRUPTED = 300  # s; other alerts tell sooner that Redis is away, and a failover takes less


def _sent(edge: str) -> str:
    return f'support_stream_lag_seconds_bucket{{instance="a",le="{edge}"}}'


LAG_BY_REPLICA = f"histogram_quantile(0.95, sum by (instance, le) (rate(support_stream_lag_seconds_bucket[{WINDOW}])))"
TOP_REPLICA = highest_label_template(
    "instance", f"max by (instance) ({LAG_BY_REPLICA} or support_stream_interrupted_seconds)"
)
_streams_are_not_fed = partial(command_is_refused, "xread")  # it follows the published events


SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportStreamLagHigh",
            short=("open streams show changes late", "luồng thay đổi đến muộn"),
            expr=f"max({LAG_BY_REPLICA}) > {STREAM_LAG_P95:g}"
            f" or max(support_stream_interrupted_seconds) > {scaled_seconds(STREAM_INTERRUPTED)}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary=f"Open streams show changes late: by {{{{ $value | humanizeDuration }}}}, most at {TOP_REPLICA}",
            description="Changes of cases reach open streams {{ $value | humanizeDuration }} after their commit, or a "
            f"replica has not followed the events for that time. The limits are {STREAM_LAG_P95:g} s for the 95th "
            f"percentile of a replica, and {STREAM_INTERRUPTED} s. Agents work with outdated pages. No change is lost.",
            stated=(f"{STREAM_LAG_P95:g} s", f"{STREAM_INTERRUPTED} s", SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support stream lag",
            "Time from a change to open streams, without replays, and how long a replica has not followed the events. "
            "The line is the limit of p95. On the right: open streams. Normal: p95 under 0.2 s, and 0 s.",
            row="stream",
            place=10,
            queries=(
                Query(quantile(0.5, "support_stream_lag_seconds"), "p50"),
                Query(quantile(0.95, "support_stream_lag_seconds"), "p95"),
                Query(highest_over_replicas("support_stream_interrupted_seconds"), "interrupted"),
                Query(total_over_replicas("support_stream_open"), "open streams", right="short"),
            ),
            unit="s",
            limit=STREAM_LAG_P95,
            width=12,
        ),
        Panel(
            "Support stream traffic",
            "Changes sent to open streams, and sent again to clients that came back. Streams that were asked to read "
            "again, by reason, and ended streams, by reason.",
            row="stream",
            place=20,
            queries=(
                Query(rate("support_stream_sent_total"), "sent"),
                Query(rate("support_stream_replayed_total"), "replayed"),
                Query(rate("support_stream_resynced_total", "reason"), "read again: {{reason}}"),
                Query(rate("support_stream_closed_total", "reason"), "ended: {{reason}}"),
            ),
            unit="ops",
            width=12,
        ),
    ),
    faults={
        "changes reach streams late": Fault(
            ("SupportStreamLagHigh",),
            {
                _sent("2.0"): CounterValues(300, 30),
                _sent("5.0"): CounterValues(300, 300),
                _sent("+Inf"): CounterValues(300, 300),
            },
        ),
        "a replica does not follow the events": Fault(
            ("SupportStreamLagHigh",),
            {"support_stream_interrupted_seconds": GaugeValues(STREAM_INTERRUPTED / 2, STREAM_INTERRUPTED * 2)},
        ),
    },
    drills=(
        DrillFault(
            "streams not fed",
            ("SupportStreamLagHigh",),
            _streams_are_not_fed,
            (Cause(2, "NOPERM"),),
            only_repair="Redis has to permit the command",
        ),
    ),
)
