"""Authentication in benchmarks: variables for a service that authenticates callers, and a header for its callers."""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import generate_key

from support_service.core.units import MAX_REQUESTS_PER_SECOND
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token

JWT_LIFETIME = 3600  # seconds until a JWT expires
RATE_LIMIT_VARIABLES = ("SUPPORT_RATE_LIMIT", "SUPPORT_RATE_LIMIT_ADDRESS")  # off where an open service is compared
COUNTED = f"{MAX_REQUESTS_PER_SECOND}/s"  # a rate that no benchmark exceeds: requests are counted, and none is refused


@dataclass(frozen=True, slots=True)
class Authentication:
    """One way to authenticate: variables of the service, and a header of its callers."""

    variables: dict[str, str]
    header: bytes


def _token(directory: Path) -> Authentication:
    return _with_token(directory, dict.fromkeys(RATE_LIMIT_VARIABLES, "off"))


def _protected(directory: Path) -> Authentication:
    return _with_token(directory, dict.fromkeys(RATE_LIMIT_VARIABLES, COUNTED))


def _with_token(directory: Path, rate_limits: dict[str, str]) -> Authentication:
    token, path = new_token(), directory / "tokens.json"
    with edit_token_file(path) as entries:
        entries.append(TokenEntry(name="load", sha256=hash_token(token), role="supervisor", created=datetime.now(UTC)))
    return _authentication(token, rate_limits, SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))


def _jwt(directory: Path) -> Authentication:
    key, path = generate_key("RSA", 2048, {"kid": "load"}), directory / "jwks.json"
    path.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    claims = {
        "iss": "load",
        "aud": "support",
        "sub": "load",
        "role": "supervisor",
        "exp": int(time.time()) + JWT_LIFETIME,
    }
    token = jwt.encode({"alg": "RS256", "kid": "load"}, claims, key)
    issuer_settings = {"SUPPORT_JWT_ISSUER": "load", "SUPPORT_JWT_AUDIENCE": "support"}
    rate_limits = dict.fromkeys(RATE_LIMIT_VARIABLES, "off")
    return _authentication(token, rate_limits, SUPPORT_AUTH="jwt", SUPPORT_JWT_KEYS=str(path), **issuer_settings)


def _authentication(token: str, rate_limits: dict[str, str], **variables: str) -> Authentication:
    return Authentication(variables | rate_limits, f"Authorization: Bearer {token}\r\n".encode())


METHODS: dict[str, Callable[[Path], Authentication]] = {"token": _token, "jwt": _jwt}  # compared with an open service
PROTECTED = "protected"  # a token and rate limits


@contextlib.contextmanager
def authentication(method: str) -> Iterator[Authentication]:
    """Yield the authentication of one of METHODS, or PROTECTED; its files exist during the `with` block."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        yield (METHODS | {PROTECTED: _protected})[method](Path(name))
