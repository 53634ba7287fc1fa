"""SupportAuditUnsealed: the audit log is not sealed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, highest_over_replicas

from observability.drill import DATABASE_AND_ROLE, Cause, Deployment, DrillFault
from observability.faults import Fault, GaugeValues
from observability.signal import SYMPTOM_FOR, Alert, Signal, scaled_seconds

AUDIT_AGE = 300  # s; an entry is sealed within a second or two, and after a failover within this time


@asynccontextmanager
async def _sealing_is_refused(deployment: Deployment) -> AsyncIterator[None]:
    """The head of the audit chain can't be updated, as after a restore with other permissions. Changes succeed."""
    await deployment.database.run(f"REVOKE UPDATE ON audit_head FROM {DATABASE_AND_ROLE}")
    yield
    await deployment.database.run(f"GRANT UPDATE ON audit_head TO {DATABASE_AND_ROLE}")


SIGNAL = Signal(
    group="service",
    alerts=(
        Alert(
            name="SupportAuditUnsealed",
            short=("the audit log is not sealed", "nhật ký audit không được niêm phong"),
            expr=f"max(support_audit_unsealed_age_seconds) > {scaled_seconds(AUDIT_AGE)}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="The audit log is sealed late: the oldest entry has waited {{ $value | humanizeDuration }}",
            description="The oldest unsealed entry of the audit log has waited {{ $value | humanizeDuration }} (limit "
            f"{AUDIT_AGE} s). Until it is sealed, its alteration or removal cannot be detected.",
            stated=(f"{AUDIT_AGE} s", SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support audit log",
            "Age of the oldest entry that is not sealed (the line is its limit). On the right: sealed entries. "
            "Normal: under 2 s.",
            row="access",
            place=30,
            queries=(
                Query(highest_over_replicas("support_audit_unsealed_age_seconds"), "oldest not sealed"),
                Query(highest_over_replicas("support_audit_sealed"), "sealed", right="short"),
            ),
            unit="s",
            limit=AUDIT_AGE,
        ),
    ),
    faults={
        "the audit log is not sealed": Fault(
            ("SupportAuditUnsealed",), {"support_audit_unsealed_age_seconds": GaugeValues(AUDIT_AGE / 2, AUDIT_AGE * 2)}
        )
    },
    drills=(
        DrillFault(
            "audit log not sealed",
            ("SupportAuditUnsealed",),
            _sealing_is_refused,
            (Cause(2, "InsufficientPrivilege"),),
            only_repair="the database has to permit the change",
        ),
    ),
)
