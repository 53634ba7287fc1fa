"""Watchdog: proof that alerts arrive. Act if it is missing."""

from observability.signal import AT_ONCE, Alert, Signal

SIGNAL = Signal(
    group="service",
    alerts=(
        Alert(
            name="Watchdog",
            short=(
                "proof that alerts arrive: act if it is missing",
                "bằng chứng là alert tới nơi: hành động khi vắng nó",
            ),
            expr="vector(1)",
            for_=AT_ONCE,
            severity="none",
            summary="Alert delivery works",
            description="Always {{ $value }}. This alert fires all the time: if it stops arriving, no other alert "
            "arrives either.",
            panel="Support availability",
        ),
    ),
)
