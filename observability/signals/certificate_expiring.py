"""SupportCertificateExpiring: a certificate expires soon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from grafana.panel import Panel, Query, selector

from observability.drill import TIME_DIVISOR, Cause, Deployment, DrillFault, DrillScenario, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import SLOW_FOR, Alert, Signal, scaled_seconds

CERTIFICATE_DAYS = 14  # days; enough to replace a certificate by hand, and after the usual renewal should have been
DAY = 86_400


@asynccontextmanager
async def _certificate_of_order_is_old(deployment: Deployment) -> AsyncIterator[None]:
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=10) / TIME_DIVISOR))
    yield
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=90)))


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportCertificateExpiring",
            short=("a certificate expires soon", "một chứng chỉ sắp hết hạn"),
            expr=f"min by (target) (support_certificate_expires_seconds) < {scaled_seconds(CERTIFICATE_DAYS * 86_400)}",
            for_=SLOW_FOR,
            severity="warning",
            summary="The certificate of {{ $labels.target }} expires in {{ $value | humanizeDuration }}",
            description="The certificate of the server {{ $labels.target }} expires in "
            f"{{{{ $value | humanizeDuration }}}} (limit {CERTIFICATE_DAYS} days). Afterwards the service refuses to "
            "call it.",
            stated=(f"{CERTIFICATE_DAYS}d", SLOW_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support certificates",
            "Time until the certificate of each server expires that the service calls over https.",
            row="dependencies",
            place=60,
            queries=(Query(f"min by (target) ({selector('support_certificate_expires_seconds')})", "{{target}}"),),
            unit="s",
            limit=CERTIFICATE_DAYS * 86_400,
            low=True,
        ),
    ),
    faults={
        "a certificate expires in ten days": Fault(
            ('SupportCertificateExpiring{target="payment"}',),
            {
                'support_certificate_expires_seconds{target="payment"}': GaugeValues(60 * DAY, 10 * DAY),
                'support_certificate_expires_seconds{target="order"}': GaugeValues(20 * DAY, 20 * DAY),
            },
        )
    },
    drills=(
        DrillFault(
            "certificate of order expires soon",
            ("SupportCertificateExpiring",),
            _certificate_of_order_is_old,
            (Cause(1, r'"order"} 0\.'),),
            scenario=DrillScenario(certificate=timedelta(days=90)),
            only_repair="the certificate has to be renewed",
        ),
    ),
    exercises=(
        Exercise(
            ("give an upstream service a certificate of 10 days", "cấp cho một service upstream chứng chỉ 10 ngày"),
            ("renew it", "gia hạn nó"),
        ),
    ),
)
