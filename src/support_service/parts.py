"""Opens the parts of the service that take several steps, each with its jobs, as the settings choose it.

A runner closes them. What only a part needs that the settings choose is imported with it.
"""

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
from support_service.platform.background import Runner
from support_service.platform.database import Database, DatabaseTimings
from support_service.platform.database.shared import observe_database, open_database
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import DatabaseSettings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.stores import DATABASE_OPERATIONS
from support_service.platform.telemetry.telemetry import Telemetry

if TYPE_CHECKING:  # loads the packages that verify JWTs
    from support_service.platform.access.keys import JwksCache
    from support_service.platform.access.oidc import OidcProvider


async def open_access(
    runner: Runner, settings: Settings, instruments: Instruments, timings: AccessTimings
) -> tuple[Authenticator, "OidcProvider | None"]:
    """Return what identifies callers, and the provider that people sign in at, if there is one.

    Raises Unavailable if the tokens or the keys can't be loaded.
    """
    auth, access = settings.server.auth, settings.access
    key_sets: list[JwksCache] = []
    instruments.observe(ACCESS_KEYS_AGE, lambda: [(max((keys.age for keys in key_sets), default=0), {})])
    if auth != "token":
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(0, {})])  # without a token file
    provider = None
    if settings.sign_in.issuer:
        from support_service.platform.access.oidc import open_provider

        provider = await open_provider(runner, access, settings.sign_in, instruments, timings)
        key_sets.append(provider.verifier.keys)
    if auth == "open":
        return AnonymousAuthenticator(), provider
    if auth == "token":
        from support_service.platform.access.tokens import FileTokenVerifier

        tokens = FileTokenVerifier(access.tokens_file, timings=timings)
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(tokens.age, {})])
        await tokens.start(runner)
        return BearerAuthenticator(tokens, instruments), provider
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
        read = await runner.enter_async_context(source)
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
    await jwts.keys.start(runner)
    return BearerAuthenticator(jwts, instruments), provider


def open_sessions(
    runner: Runner,
    settings: Settings,
    database: Database,
    authenticator: Authenticator,
    *,
    provider: "OidcProvider | None",
    timings: AccessTimings,
) -> BrowserSessions | None:
    """Open the sessions of browsers; None without authentication."""
    if settings.server.auth == "open":
        return None
    sessions = BrowserSessions(
        database,
        authenticator,
        timings.sessions,
        provider=provider,
        outage_grace=settings.sign_in.outage_grace,
        timings=timings.sign_in,
    )
    runner.push_async_callback(sessions.close)
    return sessions


async def open_monitored_database(
    runner: Runner, settings: DatabaseSettings, telemetry: Telemetry, timings: DatabaseTimings
) -> Database:
    """Open the database, measured by `telemetry`. Raises Unavailable if it can't be used."""
    measure = telemetry.operation_recorder(settings.url.partition(":")[0], DATABASE_OPERATIONS)
    database = await runner.enter_async_context(
        open_database(settings, pool_size=settings.pool_size, measure=measure, timings=timings)
    )
    telemetry.pools["database"] = database.pool_state
    await observe_database(runner, database, telemetry.instruments, timings.clock_interval)
    return database
