"""Sign-in by OpenID Connect: what the provider publishes, and the requests of the Authorization Code flow with PKCE.

A provider that is down, slow or wrong ends no session: `sessions.py` says how long a session goes on without it.
"""

import asyncio
import json
import logging
import re
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Annotated, Any, Self
from urllib.parse import quote

import aiohttp
from joserfc.util import urlsafe_b64decode
from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError
from yarl import URL

from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, Unauthenticated, Unavailable, problem
from support_service.platform.access.authenticator import ACCESS_AUTHENTICATIONS
from support_service.platform.access.jwt import UNKNOWN_KEY, JwtVerifier
from support_service.platform.access.keys import KeySourceError, parse_strict_json_object, read_url
from support_service.platform.access.timings import AccessTimings
from support_service.platform.secret_files import read_secret_file
from support_service.platform.settings.process import AccessSettings, SignInSettings
from support_service.platform.settings.value_types import check_secure_url
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.logs import outage_logger

DISCOVERY_PATH = "/.well-known/openid-configuration"
PROVIDER_UNAVAILABLE = "provider_unavailable"
ACCESS_TOKEN_PATTERN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750
MIN_CONFIRMED, MAX_CONFIRMED = 60, 24 * 3600  # seconds for which an answer without an ID token confirms a session
MAX_HINT_LENGTH = 4096  # characters of an ID token in the URL of the logout; servers limit the length of a URL

log = logging.getLogger(__name__)

SecureUrl = Annotated[str, AfterValidator(check_secure_url)]


class ProviderMetadata(BaseModel):
    """The provider's endpoints, from its discovery document (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: SecureUrl
    token_endpoint: SecureUrl
    jwks_uri: SecureUrl
    userinfo_endpoint: SecureUrl | None = None
    end_session_endpoint: SecureUrl | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


def _ascii_text(value: object) -> str | None:
    return value if isinstance(value, str) and value.isascii() and value else None


def _id_token(value: object) -> str | None:
    return None if value is None else _ascii_text(value) or ""  # which is no JWT


def _access_token(value: object) -> str | None:
    return value if isinstance(value, str) and ACCESS_TOKEN_PATTERN.fullmatch(value) else None


def _seconds(value: object) -> float:
    """Return a number of seconds within its bounds; the lowest bound for what is no number."""
    try:
        seconds = float(value) if isinstance(value, str) else value
    except ValueError:
        return MIN_CONFIRMED
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= MIN_CONFIRMED:
        return MIN_CONFIRMED
    return min(seconds, MAX_CONFIRMED)


class TokenAnswer(BaseModel):
    """An answer of the token endpoint. No wrong member costs the refresh token: the one before is used up."""

    id_token: Annotated[str | None, BeforeValidator(_id_token)] = None
    refresh_token: Annotated[str | None, BeforeValidator(_ascii_text)] = None
    access_token: Annotated[str | None, BeforeValidator(_access_token)] = None
    expires_in: Annotated[float, BeforeValidator(_seconds)] = MIN_CONFIRMED


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
        self._subject_claim = access.jwt_subject_claim
        self._claims_of_groups = (access.jwt_role_claim, access.jwt_teams_claim)
        self.verifier = JwtVerifier(
            self.read_keys,
            access.model_copy(update={"jwt_issuer": self.issuer, "jwt_audience": self.client_id}),
            required=False,
            client_id=self.client_id,
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
        """Return the grant as the provider renews it.

        Raises Unauthenticated if the provider has ended it, or if the answer does not confirm the person. Raises
        Unavailable if the provider does not answer. The new refresh token is kept also if keys or userinfo can't be
        read at present: the old one is used up.
        """
        form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token or ""}
        answer = await self._ask(form, self._timings.refresh_timeout)
        renewed = replace(grant, refresh_token=answer.refresh_token or grant.refresh_token)
        try:
            if answer.id_token is None:
                await self._check_userinfo(grant, answer.access_token)
                return replace(renewed, until=self._now() + answer.expires_in)
            claims = await self._verify(answer.id_token)
            for claim in ("sub", self._subject_claim):
                if claims.get(claim) != grant.claims.get(claim):
                    raise refused(f"The provider's ID token has another value of the claim {claim!r}.")
        except Unavailable as failure:
            outage_logger(PROVIDER_UNAVAILABLE).error("SUPPORT_OIDC_ISSUER renewed a session: %s", failure)
            return renewed
        except Unauthenticated as refusal:
            log.warning("A session ends, because the provider's answer does not confirm it: %s", refusal)
            raise
        return replace(renewed, id_token=answer.id_token, until=claims["exp"])

    async def _check_userinfo(self, grant: Grant, access_token: str | None) -> None:
        """Ask the provider for the person of a grant, whose rights must be the same.

        Raises Unauthenticated for another person or other rights, and Unavailable if the provider does not answer.
        Groups come from the answer alone: a provider may leave out an empty list.
        """
        endpoint = self._known_metadata().userinfo_endpoint
        if endpoint is None or access_token is None:
            raise refused("The answer has no ID token, and there is no userinfo endpoint or no access token to ask it.")
        try:
            body = await read_url(self._http, endpoint, headers={"Authorization": f"Bearer {access_token}"})
            told = parse_strict_json_object(body)
        except KeySourceError as failure:
            if failure.refusal is not None:
                raise refused(f"The userinfo endpoint refuses the access token: {failure}") from failure
            raise problem(PROVIDER_UNAVAILABLE, f"the userinfo endpoint can't be read: {failure}") from failure
        except ValueError as failure:
            raise refused("The answer of the userinfo endpoint is not a JSON object.") from failure
        if told.get("sub") != grant.claims["sub"]:
            raise refused("The userinfo endpoint describes another person.")
        known = {name: value for name, value in grant.claims.items() if name not in self._claims_of_groups}
        before, now = self.principal(grant), self.verifier.principal(known | told)
        if (now.role, now.subject, now.teams) != (before.role, before.subject, before.teams):
            raise refused("The userinfo endpoint gives the person other rights.")

    def principal(self, grant: Grant) -> Principal:
        """Return the person of a grant, as the settings map its claims."""
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
        try:
            return await self.verifier.read_claims(id_token)
        except Unauthenticated as refusal:
            if refusal.reason == UNKNOWN_KEY and self.verifier.keys.fault_code:  # the provider may have a new key
                raise _unavailable() from None
            raise

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
        except (KeySourceError, OSError, ValueError) as failure:
            if isinstance(failure, KeySourceError) and failure.refusal == "invalid_grant":
                raise refused("The provider does not accept the code or the session any more.") from failure
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


def refused(reason: str) -> SupportError:
    """Return the refusal of what the provider sent."""
    return problem("token_invalid", reason)


def _unavailable() -> SupportError:
    return problem(PROVIDER_UNAVAILABLE, "The sign-in provider does not answer at present; try again later.")
