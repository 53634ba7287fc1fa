"""A provider of OpenID Connect that keeps the rules, and breaks the rule that a test names.

It knows codes, PKCE, clients with a secret, and refresh tokens that are used once: a second use ends the grant.
"""

import asyncio
import json
import time
from base64 import b64decode, urlsafe_b64encode
from hashlib import sha256
from secrets import token_urlsafe
from urllib.parse import unquote

from aiohttp import web
from joserfc import jws
from joserfc.jwk import generate_key
from yarl import URL

from tests.support.access.fixtures import rsa_key
from tests.support.servers import free_port

CLIENT_ID, SECRET = "support console", "s3cret: with +/%"


class FakeProvider:
    """Signs one person in at once, the person that `claims` describe. Times are in seconds."""

    def __init__(self):
        self.claims = {"sub": "user-7", "groups": ["support-agents"]}
        self.changes = {}  # of the claims of ID tokens; None leaves one out
        self.header = {}  # changes of the header of ID tokens
        self.metadata = {}  # changes of the discovery document
        self.answer = {}  # changes of the answers of the token endpoint; None leaves a member out
        self.userinfo = {}  # changes of the answers of the userinfo endpoint; None leaves a member out
        self.userinfo_status = 200
        self.key_set = {}  # changes of the published set of keys
        self.body = None  # of every answer, instead of what it should be
        self.secret = SECRET
        self.lifetime = 3600
        self.keys = {"first": rsa_key("first")}
        self.signing_key = None  # None: the newest published key
        self.requests = []  # forms that the token endpoint got
        self.refuses_people = False  # whether refresh tokens are not valid any more
        self.keeps_refresh_tokens = False  # whether a refresh token may be used again
        self.held = None  # an event for which every request waits
        self.waiting = 0  # requests to the token endpoint that wait for it
        self._port = free_port()
        self._codes, self._grants, self._access_tokens = {}, {}, set()
        self._runner = None
        self.issuer = f"http://127.0.0.1:{self._port}/realm"

    async def open(self):
        app = web.Application(middlewares=[self._hold])
        app.router.add_get("/realm/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/realm/keys", self._keys)
        app.router.add_get("/realm/authorize", self._authorize)
        app.router.add_post("/realm/token", self._token)
        app.router.add_get("/realm/userinfo", self._userinfo)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def close(self):
        if self.held is not None:
            self.held.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def reset(self):
        """Do as at first, at the same address."""
        if self.held is not None:
            self.held.set()
        kept = ("issuer", "_port", "_runner")
        vars(self).update({name: value for name, value in vars(FakeProvider()).items() if name not in kept})
        if self._runner is None:
            await self.open()

    def rotate_keys(self):
        name = token_urlsafe(4)
        self.keys = {name: generate_key("RSA", 2048, {"kid": name})}

    def approve(self, address, **changes):
        """Sign the person in, as a browser does at an address of the provider. Return where it is sent back.

        `changes` are of the query that it is sent back with; None leaves a parameter out.
        """
        url = URL(address)
        assert (url.path, url.query["response_type"]) == ("/realm/authorize", "code")
        assert url.query["client_id"] == CLIENT_ID
        assert url.query["code_challenge_method"] == "S256"
        code = token_urlsafe()
        self._codes[code] = dict(url.query)
        query = {"code": code, "state": url.query["state"], "iss": self.issuer} | changes
        return URL(url.query["redirect_uri"]).with_query({k: v for k, v in query.items() if v is not None})

    def id_token(self, **claims):
        now = int(time.time())
        standard = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + self.lifetime}
        key_id, key = self.signing_key or list(self.keys.items())[-1]
        given = standard | self.claims | claims | self.changes
        claims = json.dumps({k: v for k, v in given.items() if v is not None})
        return jws.serialize_compact({"alg": "RS256", "kid": key_id} | self.header, claims, key)

    @web.middleware
    async def _hold(self, request, handler):
        if self.held is not None:
            self.waiting += request.method == "POST"
            await self.held.wait()
        return await handler(request) if self.body is None else web.Response(body=self.body)

    async def _discovery(self, _):
        standard = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "code_challenge_methods_supported": ["S256"],
        }
        return web.json_response({k: v for k, v in (standard | self.metadata).items() if v is not None})

    async def _keys(self, _):
        published = {"keys": [key.as_dict(private=False) for key in self.keys.values()]}
        return web.json_response(published | self.key_set)

    async def _userinfo(self, request):
        if request.headers.get("Authorization") not in {f"Bearer {token}" for token in self._access_tokens}:
            return web.json_response({"error": "invalid_token"}, status=401)
        answer = {k: v for k, v in (self.claims | self.userinfo).items() if v is not None}
        return web.json_response(answer, status=self.userinfo_status)

    async def _authorize(self, request):
        return web.Response(status=302, headers={"Location": str(self.approve(request.url))})

    async def _token(self, request):
        form = dict(await request.post())
        self.requests.append(form)
        if not self._knows_client(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        nonce = {}
        if form["grant_type"] == "authorization_code":
            begun = self._codes.pop(form["code"], None)
            if begun is None or begun["redirect_uri"] != form["redirect_uri"] or not _fits(begun, form):
                return web.json_response({"error": "invalid_grant"}, status=400)
            nonce, grant = {"nonce": begun["nonce"]}, object()
        else:
            grant = self._grants.get(form["refresh_token"], (None, True))
            if grant[1] or self.refuses_people:
                # Used twice, so someone has stolen it.
                self._grants = {token: (each, True) for token, (each, _) in self._grants.items()}
                return web.json_response({"error": "invalid_grant"}, status=400)
            self._grants[form["refresh_token"]] = (grant[0], not self.keeps_refresh_tokens)
            grant = grant[0]
        self._grants[refresh_token := token_urlsafe()] = (grant, False)
        self._access_tokens.add(access_token := token_urlsafe())
        answer = {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "id_token": self.id_token(**nonce),
            "refresh_token": refresh_token,
        } | self.answer
        return web.json_response({k: v for k, v in answer.items() if v is not None})

    def _knows_client(self, request, form):
        if self.secret is None:
            return "Authorization" not in request.headers and form.get("client_id") == CLIENT_ID
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        methods = self.metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if scheme == "Basic" and "client_secret_basic" in methods:
            return list(map(unquote, b64decode(sent).decode().split(":"))) == [CLIENT_ID, self.secret]
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, self.secret)

    def hold(self):
        """Let every request wait until the returned event is set."""
        self.held = asyncio.Event()
        return self.held


def _fits(begun, form):
    digest = sha256(form["code_verifier"].encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode() == begun["code_challenge"]


def flipped(token):
    """Return a token whose signature is that of other claims."""
    header, payload, signature = token.split(".")
    claims = json.loads(b64_decoded(payload)) | {"groups": ["support-leads"]}
    return ".".join((header, urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode(), signature))


def b64_decoded(part):
    return b64decode(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4))
