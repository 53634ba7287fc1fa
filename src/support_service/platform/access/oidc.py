"""Sign-in by OpenID Connect: what the provider publishes, and the requests of the Authorization Code flow with PKCE.

A provider that is down, slow or wrong ends no session: `sessions.py` says how long a session goes on without it.
"""

import asyncio
import json
import logging
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Annotated, Any, Self
from urllib.parse import quote

import aiohttp
from joserfc.util import urlsafe_b64decode
from pydantic import AfterValidator, BaseModel, ValidationError
from yarl import URL

from support_service.core.domain.principals import Principal
from support_service.core.errors import Unauthenticated, Unavailable
from support_service.platform.access.authenticator import ACCESS_AUTHENTICATIONS
from support_service.platform.access.jwt import JwtVerifier
from support_service.platform.access.keys import KeySourceError, RefusedRequest, parse_strict_json_object, read_url
from support_service.platform.access.timings import AccessTimings
from support_service.platform.http_client import limited_session
from support_service.platform.secret_files import read_secret_file
from support_service.platform.settings.process import AccessSettings, SignInSettings
from support_service.platform.settings.values import check_secure_url
from support_service.platform.telemetry.http import client_metrics
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.logs import outage_logger

DISCOVERY_PATH = "/.well-known/openid-configuration"
PROVIDER_UNAVAILABLE = "provider_unavailable"
MAX_HINT_LENGTH = 4096  # characters of an ID token in the URL of the logout; servers limit the length of a URL

log = logging.getLogger(__name__)

SecureUrl = Annotated[str, AfterValidator(check_secure_url)]


class ProviderMetadata(BaseModel):
    """The provider's endpoints, from its discovery document (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: SecureUrl
    token_endpoint: SecureUrl
    jwks_uri: SecureUrl
    end_session_endpoint: SecureUrl | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class TokenAnswer(BaseModel):
    """An answer of the token endpoint."""

    id_token: str | None = None
    refresh_token: str | None = None
    expires_in: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class Grant:
    """What the provider gave for a person's sign-in. `until` is when to ask again, in seconds since 1970."""

    id_token: str
    refresh_token: str | None
    until: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the ID token, which was verified when it arrived."""
        return parse_strict_json_object(urlsafe_b64decode(self.id_token.split(".")[1].encode()))


class OidcProvider:
    """The provider. Its endpoints and keys are read in the background, and kept while it is down."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        access: AccessSettings,
        settings: SignInSettings,
        instruments: Instruments,
        *,
        timings: AccessTimings = AccessTimings(),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._http = http
        self._settings = settings
        self._instruments = instruments
        self._timings = timings.sign_in
        self._metadata: ProviderMetadata | None = None
        self.issuer, self.client_id = settings.issuer or "", settings.client_id or ""
        self.verifier = JwtVerifier(
            self.read_keys,
            access.model_copy(update={"jwt_issuer": self.issuer, "jwt_audience": self.client_id}),
            required=False,
            now=now,
            timings=timings.jwks,
            variable="SUPPORT_OIDC_ISSUER",
        )

    async def read_keys(self) -> bytes:
        """Read the discovery document, and return the keys at its address. Raises KeySourceError and ValueError."""
        document = parse_strict_json_object(await read_url(self._http, self.issuer.rstrip("/") + DISCOVERY_PATH))
        try:
            metadata = ProviderMetadata.model_validate(document)
        except ValidationError as failure:
            first = failure.errors(include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise KeySourceError(f"its discovery document is invalid at {place}: {first['msg']}") from None
        if metadata.issuer != self.issuer:
            raise KeySourceError(f"its discovery document is of another issuer, {metadata.issuer!r}")
        keys = await read_url(self._http, metadata.jwks_uri)
        self._metadata = metadata
        return keys

    async def check_available(self) -> None:
        """Raise Unavailable if the provider does not answer at present. Asks it, unless it has answered just now."""
        keys = self.verifier.keys
        if self._metadata is None or keys.fault_code or keys.age > self._timings.check_interval:
            await keys.refresh()
        if self._metadata is None or keys.fault_code:
            raise _unavailable()

    def authorization_url(self, *, state: str, nonce: str, code_verifier: str, redirect_uri: str) -> str:
        """Return where the browser asks for a code. Raises Unavailable if the provider was never reached."""
        challenge = urlsafe_b64encode(sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._settings.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return str(URL(self._known_metadata().authorization_endpoint).update_query(query))

    async def redeem(self, code: str, *, nonce: str, code_verifier: str, redirect_uri: str) -> Grant:
        """Exchange a code. Raises Unauthenticated if it or its ID token is not valid, and Unavailable."""
        form = {"code": code, "redirect_uri": redirect_uri, "code_verifier": code_verifier}
        answer = await self._ask({"grant_type": "authorization_code"} | form)
        claims = await self._verify(answer.id_token)
        if claims.get("nonce") != nonce:
            raise refused("The provider's ID token is for another sign-in.")
        return Grant(answer.id_token or "", answer.refresh_token, claims["exp"])

    async def refresh(self, grant: Grant) -> Grant:
        """Return the grant as the provider renews it. Raises Unauthenticated if the provider has ended it.

        Raises Unavailable if the provider does not answer. A provider may confirm a grant without a new ID token. The
        new refresh token is kept also if its ID token can't be verified at present: the old one is used up.
        """
        form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token or ""}
        answer = await self._ask(form, self._timings.refresh_timeout)
        refresh_token = answer.refresh_token or grant.refresh_token
        if answer.id_token is None:
            return Grant(grant.id_token, refresh_token, self._now() + answer.expires_in)
        try:
            claims = await self._verify(answer.id_token)
        except (Unauthenticated, Unavailable) as failure:
            outage_logger(PROVIDER_UNAVAILABLE).error("SUPPORT_OIDC_ISSUER renewed a session: %s", failure)
            return Grant(grant.id_token, refresh_token, grant.until)
        if claims["sub"] != grant.claims["sub"]:
            raise refused("The provider's ID token is about another person.")
        return Grant(answer.id_token, refresh_token, claims["exp"])

    def principal(self, grant: Grant) -> Principal:
        """Return the person of a grant, as the settings map its claims. Raises Unauthenticated if it has no role."""
        return self.verifier.principal(grant.claims)

    def logout_url(self, grant: Grant, return_to: str) -> str | None:
        """Return where the browser ends the person's session at the provider; None if the provider has no logout."""
        endpoint = self._metadata.end_session_endpoint if self._metadata is not None else None
        if endpoint is None:
            return None
        query = {"client_id": self.client_id, "post_logout_redirect_uri": return_to}
        hint = {"id_token_hint": grant.id_token} if len(grant.id_token) <= MAX_HINT_LENGTH else {}
        return str(URL(endpoint).update_query(query | hint))

    def count(self, outcome: str) -> None:
        """Count a sign-in by its outcome, among the authentications of requests."""
        self._instruments.add(ACCESS_AUTHENTICATIONS, 1, {"outcome": outcome})

    async def _verify(self, id_token: str | None) -> dict[str, Any]:
        """Return the claims of an ID token for this client. Raises Unauthenticated and Unavailable."""
        if id_token is None:
            raise refused("The provider sent no ID token.")
        claims = await self.verifier.read_claims(id_token)
        audience, party = claims["aud"], claims.get("azp")
        if party not in (None, self.client_id) or (party is None and isinstance(audience, list) and audience[1:]):
            raise refused("The provider's ID token was issued to another client.")
        return claims

    async def _ask(self, form: Mapping[str, str], seconds: float | None = None) -> TokenAnswer:
        """Send a form to the token endpoint. Raises Unauthenticated for a code or token that is not valid any more.

        Raises Unavailable if the provider does not answer, or refuses this client: that is for operators to repair.
        """
        metadata = self._known_metadata()
        try:
            client, authorization = await self._credentials(metadata)
            body = await read_url(
                self._http, metadata.token_endpoint, {**form, **client}, authorization, seconds=seconds
            )
            return TokenAnswer.model_validate(parse_strict_json_object(body))
        except RefusedRequest as refusal:
            if refusal.error == "invalid_grant":
                raise refused("The provider does not accept the code or the session any more.") from refusal
            reason = str(refusal)
        except (KeySourceError, OSError, ValueError) as failure:
            reason = str(failure) if isinstance(failure, KeySourceError | OSError) else "its answer can't be read"
        outage_logger(PROVIDER_UNAVAILABLE).error("SUPPORT_OIDC_ISSUER does not give tokens: %s", reason)
        raise _unavailable()

    async def _credentials(self, metadata: ProviderMetadata) -> tuple[dict[str, str], dict[str, str]]:
        """Return the fields and headers that identify this client. The secret is read each time: it may change."""
        file = self._settings.client_secret_file
        if file is None:
            return {"client_id": self.client_id}, {}
        secret = await asyncio.to_thread(read_secret_file, str(file))
        if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            pair = f"{quote(self.client_id, safe='')}:{quote(secret, safe='')}"
            return {}, {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        return {"client_id": self.client_id, "client_secret": secret}, {}

    def _known_metadata(self) -> ProviderMetadata:
        if self._metadata is None:
            raise _unavailable()
        return self._metadata


@asynccontextmanager
async def open_provider(
    access: AccessSettings, settings: SignInSettings, instruments: Instruments, timings: AccessTimings
) -> AsyncIterator[OidcProvider]:
    """Open the provider during a `with` block. It may be down."""
    traces = [client_metrics(instruments)]
    async with limited_session(traces, timeout=aiohttp.ClientTimeout(total=timings.sign_in.http_timeout)) as http:
        provider = OidcProvider(http, access, settings, instruments, timings=timings)
        async with provider.verifier.keys.running():
            yield provider


def refused(reason: str) -> Unauthenticated:
    """Return the refusal of what the provider sent."""
    return Unauthenticated("token_invalid", reason)


def _unavailable() -> Unavailable:
    return Unavailable(PROVIDER_UNAVAILABLE, "The sign-in provider does not answer at present; try again later.")
