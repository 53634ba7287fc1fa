"""Opens the authenticator of a service, which identifies the callers of requests, as the settings choose it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support_service.platform.access.authenticator import (
    ACCESS_KEYS_AGE,
    ACCESS_TOKENS_AGE,
    AnonymousAuthenticator,
    Authenticator,
    BearerAuthenticator,
    TokenVerifier,
)
from support_service.platform.access.timings import AccessTimings
from support_service.platform.settings import Settings
from support_service.platform.settings.process import AccessSettings
from support_service.platform.telemetry.instruments import Instruments


@asynccontextmanager
async def open_authenticator(
    settings: Settings, instruments: Instruments, timings: AccessTimings
) -> AsyncIterator[Authenticator]:
    """Open the authenticator during a `with` block. Raises Unavailable if its tokens or keys can't be loaded."""
    authenticator = _authenticator(settings.access, settings.server.auth, instruments, timings)
    try:
        await authenticator.open()
        yield authenticator
    finally:
        await authenticator.close()


def _authenticator(
    settings: AccessSettings, auth: str, instruments: Instruments, timings: AccessTimings
) -> Authenticator:
    if auth == "jwt":
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(0, {})])  # without a token file
        verifier = _jwt_verifier(settings, instruments, timings)
    else:
        instruments.observe(ACCESS_KEYS_AGE, lambda: [(0, {})])  # without JWTs there are no keys
        if auth == "open":
            instruments.observe(ACCESS_TOKENS_AGE, lambda: [(0, {})])
            return AnonymousAuthenticator()
        from support_service.platform.access.tokens import FileTokenVerifier

        tokens = verifier = FileTokenVerifier(settings.tokens_file, timings=timings)
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(tokens.age, {})])
    return BearerAuthenticator(verifier, instruments)


def _jwt_verifier(settings: AccessSettings, instruments: Instruments, timings: AccessTimings) -> TokenVerifier:
    from support_service.platform.access.jwt import JwtRequirements, JwtVerifier
    from support_service.platform.access.keys import create_key_source
    from support_service.platform.telemetry.http import client_metrics

    keys_location = settings.jwt_keys or ""
    requirements = JwtRequirements(
        issuer=settings.jwt_issuer or "",
        audience=settings.jwt_audience or "",
        algorithms=settings.jwt_algorithms,
        leeway=settings.jwt_leeway,
        role_claim=settings.jwt_role_claim,
        subject_claim=settings.jwt_subject_claim,
        teams_claim=settings.jwt_teams_claim,
    )
    source = create_key_source(keys_location, trace_configs=[client_metrics(instruments)])
    verifier = JwtVerifier(source, requirements, required="://" not in keys_location, timings=timings.jwks)
    instruments.observe(ACCESS_KEYS_AGE, lambda: [(verifier.keys.age, {})])
    return verifier
