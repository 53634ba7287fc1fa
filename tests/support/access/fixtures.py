"""A JWT issuer with keys, a JWKS server, and tokens that tests sign."""

import time
from datetime import UTC, datetime
from functools import cache

import pytest
from joserfc import jwt
from joserfc.jwk import generate_key

from support_service.platform.access.jwt import JwtVerifier
from support_service.platform.access.keys import open_key_source
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token
from support_service.platform.background import Runner
from support_service.platform.settings.process import AccessSettings
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.upstream import Upstream
from tests.support.upstream_faults import huge

ISSUER = "https://id.example/"
AUDIENCE = "support"


class Issuer(Upstream):
    """Serves its keys at /jwks, and signs tokens with any of them."""

    def __init__(self):
        super().__init__()
        self.keys = {"rsa": rsa_key()}
        self.serve_document("/jwks", self.document)

    @property
    def jwks_location(self):
        return f"{self.url}/jwks"

    @property
    def document(self):
        return {"keys": [key.as_dict(private=False) for key in self.keys.values()]}

    def add_key(self, key_id, kind, size, **parameters):
        """Create a key, and serve it from now on."""
        self.keys[key_id] = generate_key(kind, size, {"kid": key_id, **parameters})
        self.serve_document("/jwks", self.document)

    def remove_key(self, key_id):
        key = self.keys.pop(key_id)
        self.serve_document("/jwks", self.document)
        return key

    def serve_huge_body(self):
        """Answer every request with 1 GiB of blanks, as far as the client reads them."""
        self.fault = huge(size=1 << 30)

    def sign(self, key_id="rsa", algorithm="RS256", *, key=None, header=None, **claims):
        """Return a token with valid claims, except for those given; a claim of None is left out."""
        all_claims = valid_claims() | claims
        return jwt.encode(
            {"alg": algorithm, "kid": key_id} | (header or {}),
            {name: value for name, value in all_claims.items() if value is not None},
            key or self.keys[key_id],
            [algorithm],
        )


@cache
def rsa_key(key_id="rsa"):
    """Return the first key of every issuer. It is cached, since generating one takes longer than most tests."""
    return generate_key("RSA", 2048, {"kid": key_id})


def valid_claims():
    now = int(time.time())
    times = {"iat": now, "nbf": now, "exp": now + 300}
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-17", "role": "supervisor", **times}


def write_token(path, name, **fields):
    """Add a token to a token file, as `token create` does; return the token."""
    token = new_token()
    entry = {"name": name, "sha256": hash_token(token), "role": "service", "created": datetime.now(UTC)} | fields
    with edit_token_file(path) as entries:
        entries.append(TokenEntry(**entry))
    return token


def jwt_settings(**requirements):
    """Return the settings of a service that requires JWTs of the issuer; names are those after `SUPPORT_JWT_`."""
    required = {"issuer": ISSUER, "audience": AUDIENCE} | requirements
    return AccessSettings.load({f"SUPPORT_JWT_{name.upper()}": str(value) for name, value in required.items()})


@pytest.fixture
async def issuer():
    issuer = Issuer()
    await issuer.open()
    yield issuer
    await issuer.close()


@pytest.fixture
async def open_verifier(issuer):
    """Open a verifier that reads keys from the issuer, a file or another source; keywords change its options."""
    async with Runner() as opened:

        async def start(file=None, *, read=None, options=None, now=time.time, clock=time.monotonic, **requirements):
            read = read or await opened.enter_async_context(
                open_key_source(file or issuer.jwks_location, 6 * GENEROUS_TIMEOUT)
            )
            settings = jwt_settings(**requirements)
            verifier = JwtVerifier(read, settings, required=file is not None, now=now, clock=clock, **options or {})
            await verifier.keys.start(opened)
            return verifier

        start.close = opened.aclose
        yield start
