"""The access component: the authenticator, which identifies the caller of a request."""

from collections.abc import AsyncIterator
from typing import Literal

from aiohttp import web

from support_service.platform.access.authenticator import (
    ACCESS_KEYS_AGE,
    ACCESS_TOKENS_AGE,
    AnonymousAuthenticator,
    Authenticator,
    BearerAuthenticator,
    TokenVerifier,
)
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.access.timings import AccessTimings, SessionLimits
from support_service.platform.database.component import DATABASE
from support_service.platform.settings.process import AccessSettings
from support_service.platform.telemetry.component import INSTRUMENTS
from support_service.platform.telemetry.instruments import Instruments

AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
BROWSER_SESSIONS = web.AppKey("browser_sessions", BrowserSessions)  # without authentication there are none


def setup(
    app: web.Application, settings: AccessSettings, auth: Literal["open", "token", "jwt"], timings: AccessTimings
) -> None:
    """Add the authenticator. It opens before the database: a service that can't identify callers must not start."""
    authenticator = app[AUTHENTICATOR] = _authenticator(settings, auth, app[INSTRUMENTS], timings)

    async def run(_: web.Application) -> AsyncIterator[None]:
        await authenticator.open()
        yield
        await authenticator.close()

    app.cleanup_ctx.append(run)


def setup_sessions(app: web.Application, limits: SessionLimits) -> None:
    """Add the sessions of browsers, unless authentication is off. They need the database."""
    authenticator = app[AUTHENTICATOR]
    if isinstance(authenticator, AnonymousAuthenticator):
        return

    async def run(app: web.Application) -> AsyncIterator[None]:
        app[BROWSER_SESSIONS] = BrowserSessions(app[DATABASE], authenticator, limits)
        yield

    app.cleanup_ctx.append(run)


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
