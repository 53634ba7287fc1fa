"""What a check found: each step with its time, its threshold and a verdict, and one verdict over all."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["good", "slow", "wrong", "skipped"]


@dataclass(slots=True)
class Step:
    """One step; times are in seconds, and `detail` says what is wrong."""

    step: str
    threshold: float
    seconds: float = 0.0
    verdict: Verdict = "skipped"
    detail: str | None = None


@dataclass(slots=True)
class Report:
    """A whole check. `reason` says why it could not run, where it could not."""

    base_url: str
    started_at: str
    steps: list[Step] = field(default_factory=list)
    reason: str | None = None

    @property
    def verdict(self) -> Literal["good", "slow", "wrong", "not run"]:
        """Wrong before slow before good."""
        found = {step.verdict for step in self.steps}
        if self.reason is not None:
            return "not run"
        return "wrong" if found & {"wrong", "skipped"} else "slow" if "slow" in found else "good"

    @property
    def status(self) -> int:
        """The exit status."""
        return {"good": 0, "slow": 2, "wrong": 2, "not run": 3}[self.verdict]

    def document(self) -> dict[str, Any]:
        """The report as it is printed."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "baseUrl": self.base_url,
            "startedAt": self.started_at,
            "seconds": round(sum(step.seconds for step in self.steps), 3),
            "steps": [asdict(step) | {"seconds": round(step.seconds, 3)} for step in self.steps],
        }
