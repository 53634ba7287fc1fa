"""Opens what identifies the callers of requests, as the settings choose it: the authenticator, and the provider."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from support_service.platform.access.authenticator import (
    ACCESS_KEYS_AGE,
    ACCESS_TOKENS_AGE,
    AnonymousAuthenticator,
    Authenticator,
    BearerAuthenticator,
)
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.access.timings import AccessTimings
from support_service.platform.database import Database
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments

if TYPE_CHECKING:  # loads the packages that verify JWTs
    from support_service.platform.access.keys import JwksCache
    from support_service.platform.access.oidc import OidcProvider


@asynccontextmanager
async def open_access(
    settings: Settings, instruments: Instruments, timings: AccessTimings
) -> AsyncIterator[tuple[Authenticator, "OidcProvider | None"]]:
    """Open the authenticator, and the provider that people sign in at, if there is one, during a `with` block.

    Raises Unavailable if the tokens or the keys can't be loaded.
    """
    auth, access = settings.server.auth, settings.access
    key_sets: list[JwksCache] = []
    instruments.observe(ACCESS_KEYS_AGE, lambda: [(max((keys.age for keys in key_sets), default=0), {})])
    if auth != "token":
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(0, {})])  # without a token file
    authenticator: Authenticator = AnonymousAuthenticator()
    provider = None
    async with AsyncExitStack() as stack:
        if settings.sign_in.issuer:
            from support_service.platform.access.oidc import open_provider

            provider = await stack.enter_async_context(
                open_provider(access, settings.sign_in, instruments, timings=timings)
            )
            key_sets.append(provider.verifier.keys)
        if auth == "token":
            from support_service.platform.access.tokens import FileTokenVerifier

            tokens = FileTokenVerifier(access.tokens_file, timings=timings)
            instruments.observe(ACCESS_TOKENS_AGE, lambda: [(tokens.age, {})])
            await stack.enter_async_context(tokens.running())
            authenticator = BearerAuthenticator(tokens, instruments)
        elif auth == "jwt":
            from support_service.platform.access.jwt import JwtVerifier
            from support_service.platform.access.keys import ReadKeys, open_key_source
            from support_service.platform.telemetry.http import client_metrics

            if provider is not None and not access.jwt_keys:
                read: ReadKeys = provider.read_keys
                required, variable = False, "SUPPORT_OIDC_ISSUER"
                issuer, audience = access.jwt_issuer or provider.issuer, access.jwt_audience or provider.client_id
                access = access.model_copy(update={"jwt_issuer": issuer, "jwt_audience": audience})
            else:
                location = access.jwt_keys or ""
                source = open_key_source(location, trace_configs=[client_metrics(instruments)])
                read = await stack.enter_async_context(source)
                required, variable = "://" not in location, "SUPPORT_JWT_KEYS"
            # Tokens for another audience than the client's are issued to programs, which have ids of their own.
            client_id = settings.sign_in.client_id
            jwts = JwtVerifier(
                read,
                access,
                required=required,
                client_id=client_id if client_id == access.jwt_audience else None,
                timings=timings.jwks,
                variable=variable,
            )
            key_sets.append(jwts.keys)
            await stack.enter_async_context(jwts.keys.running())
            authenticator = BearerAuthenticator(jwts, instruments)
        yield authenticator, provider


@asynccontextmanager
async def open_sessions(
    settings: Settings,
    database: Database,
    authenticator: Authenticator,
    provider: "OidcProvider | None",
    timings: AccessTimings,
) -> AsyncIterator[BrowserSessions | None]:
    """Open the sessions of browsers during a `with` block; None without authentication."""
    if settings.server.auth == "open":
        yield None
        return
    sessions = BrowserSessions(
        database,
        authenticator,
        timings.sessions,
        provider=provider,
        outage_grace=settings.sign_in.outage_grace,
        timings=timings.sign_in,
    )
    try:
        yield sessions
    finally:
        await sessions.close()
