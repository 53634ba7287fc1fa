"""An issuer of JWTs: keys, a real server of its JWKS, and tokens signed as a test says."""

import time
from datetime import UTC, datetime
from functools import cache

import pytest
from joserfc import jwt
from joserfc.jwk import generate_key

from support_service.access.jwt import JwtRequirements, JwtVerifier
from support_service.access.key_source import create_key_source
from support_service.access.token_file import TokenEntry, edit_token_file, hash_token, new_token
from tests.support.calls import PATIENCE
from tests.support.upstream import Upstream
from tests.support.upstream_faults import huge

ISSUER = "https://id.example/"
AUDIENCE = "support"


class Issuer(Upstream):
    """Serves its keys at /jwks, and signs with any of them."""

    def __init__(self):
        super().__init__()
        self.keys = {"rsa": rsa_key()}
        self.know("/jwks", self.document)

    @property
    def place(self):
        """What SUPPORT_JWT_KEYS is set to."""
        return f"{self.url}/jwks"

    @property
    def document(self):
        """The JWKS as it is now."""
        return {"keys": [key.as_dict(private=False) for key in self.keys.values()]}

    def add(self, key_id, kind, size, **parameters):
        """A new key, served from now on."""
        self.keys[key_id] = generate_key(kind, size, {"kid": key_id, **parameters})
        self.know("/jwks", self.document)

    def remove(self, key_id):
        """A key is served no more; gives it."""
        key = self.keys.pop(key_id)
        self.know("/jwks", self.document)
        return key

    def flood(self):
        """Answer every request with 1 GiB of blanks, as far as the client reads them."""
        self.fault = huge(size=1 << 30)

    def sign(self, key_id="rsa", algorithm="RS256", *, key=None, header=None, **claims):
        """A token; claims that are None are left out, and what is not given is as it should be."""
        whole = good() | claims
        return jwt.encode(
            {"alg": algorithm, "kid": key_id} | (header or {}),
            {name: value for name, value in whole.items() if value is not None},
            key or self.keys[key_id],
            [algorithm],
        )


@cache
def rsa_key():
    """The key that every issuer begins with; making one takes longer than most tests."""
    return generate_key("RSA", 2048, {"kid": "rsa"})


def good():
    """Claims that let a supervisor in."""
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-17",
        "role": "supervisor",
        "iat": now,
        "nbf": now,
        "exp": now + 300,
    }


def put_token(path, name, **fields):
    """Add a token to a file of tokens, as `token create` does. Return the token."""
    token = new_token()
    entry = {"name": name, "sha256": hash_token(token), "role": "service", "created": datetime.now(UTC)} | fields
    with edit_token_file(path) as entries:
        entries.append(TokenEntry(**entry))
    return token


@pytest.fixture
async def issuer():
    """The issuer, up and well."""
    issuer = Issuer()
    await issuer.open()
    yield issuer
    await issuer.close()


@pytest.fixture
async def open_jwt(issuer):
    """Open an authenticator that follows the issuer, a file or another source; keywords change its requirements."""
    opened = []

    async def start(file=None, *, keys=None, options=None, now=time.time, clock=time.monotonic, **requirements):
        requirements = {"algorithms": ("RS256", "ES256", "EdDSA")} | requirements
        keys = keys or create_key_source(file or issuer.place, 6 * PATIENCE)
        made = JwtVerifier(
            keys,
            JwtRequirements(ISSUER, AUDIENCE, **requirements),
            required=file is not None,
            now=now,
            clock=clock,
            **options or {},
        )
        await made.open()
        opened.append(made)
        return made

    yield start
    for each in opened:
        await each.close()
