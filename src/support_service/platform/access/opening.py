"""Opens the authenticator of a service, which identifies the callers of requests, as the settings choose it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support_service.platform.access.authenticator import (
    ACCESS_KEYS_AGE,
    ACCESS_TOKENS_AGE,
    AnonymousAuthenticator,
    Authenticator,
    BearerAuthenticator,
)
from support_service.platform.access.timings import AccessTimings
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments


@asynccontextmanager
async def open_authenticator(
    settings: Settings, instruments: Instruments, timings: AccessTimings
) -> AsyncIterator[Authenticator]:
    """Open the authenticator during a `with` block. Raises Unavailable if its tokens or keys can't be loaded."""
    auth, access = settings.server.auth, settings.access
    if auth != "token":
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(0, {})])  # without a token file
    if auth != "jwt":
        instruments.observe(ACCESS_KEYS_AGE, lambda: [(0, {})])  # without JWTs
    if auth == "token":
        from support_service.platform.access.tokens import FileTokenVerifier

        tokens = FileTokenVerifier(access.tokens_file, timings=timings)
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(tokens.age, {})])
        async with tokens.running():
            yield BearerAuthenticator(tokens, instruments)
    elif auth == "jwt":
        from support_service.platform.access.jwt import JwtVerifier
        from support_service.platform.access.keys import open_key_source
        from support_service.platform.telemetry.http import client_metrics

        location = access.jwt_keys or ""
        async with open_key_source(location, trace_configs=[client_metrics(instruments)]) as read:
            jwts = JwtVerifier(read, access, required="://" not in location, timings=timings.jwks)
            instruments.observe(ACCESS_KEYS_AGE, lambda: [(jwts.keys.age, {})])
            async with jwts.keys.running():
                yield BearerAuthenticator(jwts, instruments)
    else:
        yield AnonymousAuthenticator()
