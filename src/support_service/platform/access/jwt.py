"""Verification of JWTs: signed by a key of the issuer, issued for this service, and not expired (RFC 7519, 8725)."""

import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, cast

from cachetools import LRUCache
from joserfc import jws
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode

from support_service.core.domain.principals import CASE_SCOPED_ROLES, ROLES, Principal, Role
from support_service.core.errors import SupportError, problem
from support_service.platform.access.keys import JwksCache, ReadKeys, parse_strict_json_object
from support_service.platform.access.timings import JwksTimings
from support_service.platform.settings.process import AccessSettings

MAX_CACHED_TOKENS = 10_000  # default number of verified tokens in the cache
# Asymmetric algorithms only. With HS256 and similar, every party that can verify a token can also sign one; `none` has
# no signature. Which of them is used, the keys of the issuer say.
ALGORITHMS = (*("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"), *("EdDSA", "Ed25519"))
LEEWAY = 30  # seconds that the clock of the issuer may differ
MAX_NAME_LENGTH = 128  # characters
MAX_ID_LENGTH = 36  # characters of the id of an agent, a customer or a team, as in cases
MAX_TEAMS = 64
MAX_EXPIRY = 253_402_300_799  # seconds since 1970: the end of the year 9999, beyond which there are no dates
NAME_CLAIMS = ("name", "preferred_username")  # of OpenID Connect: the first that is there counts
STAFF_ROLES = ("agent", "supervisor")  # of people in the directory
UNKNOWN_KEY = "unknown_key"  # reason: the issuer does not publish the key that the token names, or it is not read yet


class JwtVerifier:
    """A verifier of JWTs. A verified token is cached until it expires or the keys change.

    With a client id, tokens must be issued to that client, as ID tokens are.
    """

    def __init__(
        self,
        read: ReadKeys,
        settings: AccessSettings,
        *,
        required: bool,
        client_id: str | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        timings: JwksTimings = JwksTimings(),
        max_cached_tokens: int = MAX_CACHED_TOKENS,
        variable: str = "SUPPORT_JWT_KEYS",
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._now = now
        self._verified: LRUCache[bytes, tuple[Principal, float]] = LRUCache(max_cached_tokens)
        self.keys = JwksCache(
            read, self._verified.clear, required=required, clock=clock, timings=timings, variable=variable
        )
        self._signatures = _AllowedAlgorithms(algorithms=ALGORITHMS, strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            lambda: int(now()),
            LEEWAY,
            iss={"essential": True, "value": settings.jwt_issuer or ""},
            aud={"essential": True, "value": settings.jwt_audience or ""},
            exp={"essential": True},
            sub={"essential": True},
        )

    @property
    def fault_code(self) -> str | None:
        return self.keys.fault_code

    async def verify(self, token: str) -> Principal:
        """Return the caller that the token identifies.

        Raises Unauthenticated, and Unavailable if no keys were ever read.
        """
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        cached = self._verified.get(digest)
        if cached is None:
            claims = await self.read_claims(token)
            cached = self.principal(claims), claims["exp"] + LEEWAY
            self._verified[digest] = cached
        caller, until = cached
        if until <= self._now():
            raise _expired_token(caller.name)
        return caller

    async def read_claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token: its signature, issuer, audience, client and expiry are valid.

        Raises Unauthenticated, and Unavailable if no keys were ever read. Nothing is awaited after the key is found. So
        a token that was verified with an old key is not cached after the keys have changed.
        """
        try:
            header = parse_strict_json_object(urlsafe_b64decode(token.partition(".")[0].encode()))
        except ValueError as failure:
            raise _invalid_token("It is not a JWT.") from failure
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _invalid_token("Its algorithm is not allowed.")
        if not isinstance(key_id, str | None) or "crit" in header or "b64" in header:
            raise _invalid_token("Its header has an unsupported parameter.")
        key = await self.keys.find(key_id, algorithm)
        if key is None:
            raise problem("token_invalid", "The token is invalid. It is signed by an unknown key.", reason=UNKNOWN_KEY)
        try:
            signed = jws.deserialize_compact(token, key, registry=self._signatures)
            claims = parse_strict_json_object(signed.payload)
            self._claims.validate(claims)
        except ExpiredTokenError as failure:
            raise _expired_token(
                claims["sub"] if _is_text_up_to(claims.get("sub"), MAX_NAME_LENGTH) else None
            ) from failure
        except ClaimError as failure:
            raise _invalid_token(f"Its claim {failure.claim!r} is missing or invalid.") from failure
        except (JoseError, ValueError) as failure:
            raise _invalid_token("Its signature or format is invalid.") from failure
        if claims["exp"] > MAX_EXPIRY:
            raise _invalid_token("Its claim 'exp' is missing or invalid.")
        if self._client_id is not None and not _is_issued_to(self._client_id, claims):
            raise _invalid_token("It was issued to another client.")
        return claims

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Return the caller that verified claims describe."""
        settings = self._settings
        role = self._role(claims)
        subject, teams = claims.get(settings.jwt_subject_claim), claims.get(settings.jwt_teams_claim, [])
        if settings.jwt_team_map:
            groups = _as_list(teams)
            teams = list({team for group, team in settings.jwt_team_map if group in groups})
        if not _is_text_up_to(claims["sub"], MAX_NAME_LENGTH):
            raise _invalid_token(f"Its claim 'sub' must have 1 to {MAX_NAME_LENGTH} characters, and not only blanks.")
        if not (
            _is_text_up_to(subject, MAX_ID_LENGTH)
            if role in CASE_SCOPED_ROLES
            else subject is None or _is_text_up_to(subject, MAX_NAME_LENGTH)
        ):
            raise _invalid_token(
                f"Its claim {settings.jwt_subject_claim!r} must have 1 to {MAX_ID_LENGTH} characters, as in cases."
            )
        if not (
            isinstance(teams, list)
            and len(teams) <= MAX_TEAMS
            and all(_is_text_up_to(each, MAX_ID_LENGTH) for each in teams)
        ):
            raise _invalid_token(f"Its claim {settings.jwt_teams_claim!r} must be a list of at most {MAX_TEAMS} names.")
        name = _display_name(claims) if role in STAFF_ROLES else None
        return Principal(claims["sub"], role, subject, frozenset(teams), name)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        name, role_map = self._settings.jwt_role_claim, self._settings.jwt_role_map
        listed = _as_list(claims.get(name))
        if role_map:
            role = next((role for group, role in role_map if group in listed), None)
            if role is None:
                raise _invalid_token(f"Its claim {name!r} has no group of SUPPORT_JWT_ROLE_MAP.")
        else:
            role = listed[0] if len(listed) == 1 else None  # some issuers can send only lists
            if role not in ROLES:
                raise _invalid_token(f"Its claim {name!r} must be one of {', '.join(ROLES)}.")
        return cast(Role, role)


class _AllowedAlgorithms(JWSRegistry):
    """Registry of the allowed algorithms.

    It does not warn about `EdDSA`: RFC 9864 renamed it, but most issuers still use the old name.
    """

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def _is_issued_to(client_id: str, claims: Mapping[str, Any]) -> bool:
    """Return whether a token is for a client. One with several audiences must name the client (OpenID Connect)."""
    audience, party = claims["aud"], claims.get("azp")
    return party == client_id or (party is None and not (isinstance(audience, list) and audience[1:]))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_text_up_to(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and value.isprintable() and value.strip() != ""


def _display_name(claims: Mapping[str, Any]) -> str | None:
    """Return the name of a person, or None if the claims have none that the directory takes."""
    for claim in NAME_CLAIMS:
        name = claims.get(claim)
        if isinstance(name, str) and _is_text_up_to(name.strip(), MAX_NAME_LENGTH):
            return name.strip()
    return None


def _invalid_token(reason: str) -> SupportError:
    return problem("token_invalid", f"The token is invalid. {reason}")


def _expired_token(caller: str | None) -> SupportError:
    refusal = problem("token_expired", "The token has expired; request a new one.")
    refusal.caller = caller
    return refusal
