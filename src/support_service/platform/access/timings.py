"""Intervals of the authenticators in seconds, and limits of sessions. No package that one of them needs is loaded."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class JwksTimings:
    """Intervals of refreshes of the issuer's keys, in seconds."""

    refresh_interval: float = 300.0
    retry_interval: float = 10.0  # after a refresh that failed
    unknown_key_interval: float = 30.0  # minimum between two refreshes that unknown keys cause


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session may last, how many one token may have, and how many sign-ins may wait; the oldest ones end."""

    lifetime: timedelta = timedelta(days=7)
    max_per_token: int = 20
    max_sign_ins_per_address: int = 500  # that began at one replica: an office that signs in within a minute
    max_sign_ins: int = 10_000


@dataclass(frozen=True, slots=True)
class SignInTimings:
    """Times of the sign-in at a provider and of the sessions that it starts, in seconds."""

    http_timeout: float = 5.0  # for the whole answer of the provider to a sign-in
    check_interval: float = 30.0  # an answer of the provider that is older is asked for again before a sign-in
    refresh_early: float = 30.0  # before the ID token of a session expires
    retry_interval: float = 30.0  # between two refreshes of a session
    refresh_wait: float = 5.0  # of a request, which then goes on with the rights that the session had
    # Longest time of the refresh itself: a late answer has a new refresh token, and the old one is used up.
    refresh_timeout: float = 60.0
    refresh_claim: float = 75.0  # from then on another replica tries


@dataclass(frozen=True, slots=True)
class CallerTimings:
    """Times of the numbers of callers, in seconds."""

    window: float = 300.0  # in which a caller counts
    line_interval: float = 60.0  # between two log lines about one caller


@dataclass(frozen=True, slots=True)
class AccessTimings:
    """Intervals of the authenticators and of what is known of callers, in seconds, and the limits of sessions."""

    jwks: JwksTimings = JwksTimings()
    token_file_check_interval: float = 2.0  # between checks whether the token file changed
    sessions: SessionLimits = SessionLimits()
    sign_in: SignInTimings = SignInTimings()
    callers: CallerTimings = CallerTimings()
