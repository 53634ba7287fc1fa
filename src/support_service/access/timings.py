"""Intervals of the authenticators, in seconds. They load no package that only one authenticator needs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JwksTimings:
    """Intervals of refreshes of the issuer's keys, in seconds."""

    refresh_interval: float = 300.0
    retry_interval: float = 10.0  # after a refresh that failed
    unknown_key_interval: float = 30.0  # minimum between two refreshes that unknown keys cause


@dataclass(frozen=True, slots=True)
class AccessTimings:
    """Intervals of the authenticators, in seconds."""

    jwks: JwksTimings = JwksTimings()
    token_file_check_interval: float = 2.0  # between checks whether the token file changed
