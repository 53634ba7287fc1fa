"""Stub until merged."""

from support_service.references import Service


class Levers:
    """None is pulled."""

    def degraded(self, _service: Service) -> str | None:
        return None

    def ttl(self, default: float) -> float:
        return default
