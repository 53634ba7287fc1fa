"""Instruments of `support-service probe`, which runs as a separate process."""

from support_service.platform.telemetry.instruments.spec import InstrumentSpec

PROBE_STEPS = ("open", "message", "upload", "download", "event", "timeline", "refresh", "close", "delete")
PROBE_PATHS = ("service", "ingress")  # by which a check reaches the service: `--base-url`, or `--ingress-url`

PROBE_SUCCESS = InstrumentSpec(
    "support.probe.success",
    "gauge",
    "{check}",
    "1 where the last synthetic check was good, else 0; checks reach the service directly (service) or through its "
    "ingress",
    {"via": PROBE_PATHS},
)
PROBE_STEP = InstrumentSpec(
    "support.probe.step",
    "gauge",
    "s",
    "Duration of each step of the last synthetic check",
    {"via": PROBE_PATHS, "step": PROBE_STEPS},
)
PROBE_STEP_SUCCESS = InstrumentSpec(
    "support.probe.step_success",
    "gauge",
    "{check}",
    "1 for each step of the last synthetic check that was good, 0 for one that was slow or wrong; no value for a step "
    "that was skipped",
    {"via": PROBE_PATHS, "step": PROBE_STEPS},
)
PROBE_STEP_FAILURE = InstrumentSpec(
    "support.probe.step_failure",
    "gauge",
    "{check}",
    "1 for each step of the last synthetic check that was not good, with the HTTP status and the problem code of an "
    "answer that was not expected; without them, the step was slow, got no answer, or got one with wrong content",
    {"via": PROBE_PATHS, "step": PROBE_STEPS, "status": None, "code": None},
)
PROBE_LAST_SUCCESS = InstrumentSpec(
    "support.probe.last_success_timestamp",
    "gauge",
    "s",
    "When a synthetic check was last good, in Unix time",
    {"via": PROBE_PATHS},
)
