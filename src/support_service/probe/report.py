"""The result of a check: duration, threshold and verdict of each step, and an overall verdict."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

StepVerdict = Literal["good", "slow", "wrong", "skipped"]


@dataclass(slots=True)
class Step:
    """One step. Times are in seconds; `detail` says what is wrong.

    `status` and `code` are those of an answer that was not expected: its HTTP status and problem code.
    """

    step: str
    threshold: float
    seconds: float = 0.0
    verdict: StepVerdict = "skipped"
    detail: str | None = None
    status: int | None = None
    code: str | None = None


@dataclass(slots=True)
class CheckReport:
    """A whole check. `via` is one of PROBE_PATHS; `reason` says why it could not run, and is None if it ran."""

    base_url: str
    started_at: str
    via: str = "service"
    steps: list[Step] = field(default_factory=list)
    reason: str | None = None

    @property
    def verdict(self) -> Literal["good", "slow", "wrong", "not run"]:
        """Return the overall verdict: wrong before slow before good. A skipped step counts as wrong."""
        found = {step.verdict for step in self.steps}
        if self.reason is not None:
            return "not run"
        return "wrong" if found & {"wrong", "skipped"} else "slow" if "slow" in found else "good"

    @property
    def status(self) -> int:
        """Return the exit status: 0 good, 2 slow or wrong, 3 not run."""
        return {"good": 0, "slow": 2, "wrong": 2, "not run": 3}[self.verdict]

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "via": self.via,
            "baseUrl": self.base_url,
            "startedAt": self.started_at,
            "seconds": round(sum(step.seconds for step in self.steps), 3),
            "steps": [asdict(step) | {"seconds": round(step.seconds, 3)} for step in self.steps],
        }
