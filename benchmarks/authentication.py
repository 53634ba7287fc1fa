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

from support_service.access.token_file import TokenEntry, edit_token_file, hash_token, new_token

VALID = 3600  # seconds until a JWT expires
LIMITS = ("SUPPORT_RATE_LIMIT", "SUPPORT_RATE_LIMIT_ADDRESS")  # off, because an open service has no such limits either


@dataclass(frozen=True, slots=True)
class Asked:
    """One way to authenticate: variables of the service, and a header of its callers."""

    variables: dict[str, str]
    header: bytes


def _token(directory: Path) -> Asked:
    token, path = new_token(), directory / "tokens.json"
    with edit_token_file(path) as entries:
        entries.append(TokenEntry(name="load", sha256=hash_token(token), role="supervisor", created=datetime.now(UTC)))
    return _asked(token, SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))


def _jwt(directory: Path) -> Asked:
    key, path = generate_key("RSA", 2048, {"kid": "load"}), directory / "jwks.json"
    path.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    claims = {"iss": "load", "aud": "support", "sub": "load", "role": "supervisor", "exp": int(time.time()) + VALID}
    token = jwt.encode({"alg": "RS256", "kid": "load"}, claims, key)
    named = {"SUPPORT_JWT_ISSUER": "load", "SUPPORT_JWT_AUDIENCE": "support"}
    return _asked(token, SUPPORT_AUTH="jwt", SUPPORT_JWT_KEYS=str(path), **named)


def _asked(token: str, **variables: str) -> Asked:
    return Asked(variables | dict.fromkeys(LIMITS, "off"), f"Authorization: Bearer {token}\r\n".encode())


WAYS: dict[str, Callable[[Path], Asked]] = {"token": _token, "jwt": _jwt}


@contextlib.contextmanager
def asked(way: str) -> Iterator[Asked]:
    """Yield one of WAYS. Its files exist for the length of the `with` block."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        yield WAYS[way](Path(name))
