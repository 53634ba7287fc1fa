"""Callers known by a JWT, and every way there is to make one that must not be believed."""

import asyncio
import base64
import hmac
import json
from hashlib import sha256

import hypothesis.strategies as st
import pytest
from hypothesis import given
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwk import OctKey, generate_key
from joserfc.jws import JWSRegistry

from support_service.core.domain.principals import Principal
from support_service.core.errors import Unauthenticated
from support_service.platform.access.jwt import ALGORITHMS, LEEWAY, JwtVerifier, _AllowedAlgorithms
from tests.support.access.fixtures import AUDIENCE, ISSUER, jwt_settings, valid_claims
from tests.support.each import each_row

KEYS = [
    *(("RSA", 2048, "RS256"), ("RSA", 2048, "PS512"), ("EC", "P-256", "ES256"), ("EC", "P-521", "ES512")),
    *(("OKP", "Ed25519", "EdDSA"), ("OKP", "Ed25519", "Ed25519")),
]


def encoded(part):
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def refusal(jwt, token, code="token_invalid"):
    with pytest.raises(Unauthenticated) as refused:
        await jwt.verify(token)
    assert refused.value.code == code
    assert len(token) < 16 or token not in refused.value.detail
    return refused.value.detail


def signed(header, payload, key):
    """A token whose signature is good, whatever its parts say; what is None in the header is left out."""
    header = {"alg": "RS256", "kid": "rsa"} | header
    text = f"{encoded({name: value for name, value in header.items() if value is not None})}.{encoded(payload)}"
    return f"{text}.{encoded(JWSRegistry.algorithms['RS256'].sign(text.encode(), key))}"


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # signing, as an issuer does; checking warns of nothing
@each_row(("kind", "size", "algorithm"), KEYS)
async def test_only_allowed_algorithms_are_accepted(issuer, open_verifier, monkeypatch, kind, size, algorithm):
    issuer.add_key("other", kind, size)
    token = issuer.sign("other", algorithm)
    assert (await (await open_verifier()).verify(token)).name == "user-17"
    monkeypatch.setattr("support_service.platform.access.jwt.ALGORITHMS", tuple({*ALGORITHMS} - {algorithm}))
    assert "algorithm" in await refusal(await open_verifier(), token)


async def test_claims_become_a_principal(issuer, open_verifier):
    """A role may be in a list, one of several audiences is enough, and the names of claims are configurable."""
    jwt = await open_verifier()
    for aud in (AUDIENCE, [AUDIENCE], ["other", AUDIENCE]):
        token = issuer.sign(role="agent", teams=["returns", "vip"], aud=aud)
        expected = Principal("user-17", "agent", "user-17", frozenset({"returns", "vip"}))
        assert [await jwt.verify(token) for _ in range(2)] == [expected] * 2
    jwt = await open_verifier(role_claim="https://id.example/roles", subject_claim="agent_id", teams_claim="groups")
    claims = {"https://id.example/roles": ["agent"], "agent_id": "agent-lan", "groups": ["vip"], "role": None}
    assert await jwt.verify(issuer.sign(**claims)) == Principal("user-17", "agent", "agent-lan", frozenset({"vip"}))
    await refusal(jwt, issuer.sign(**claims | {"agent_id": None}))
    served = await jwt.verify(issuer.sign(**claims | {"https://id.example/roles": "service", "agent_id": None}))
    assert (served.role, served.subject) == ("service", None)


async def test_groups_of_the_issuer_become_role_and_teams(issuer, open_verifier):
    r"""Of several groups with a role, the first one of the map counts; groups without a meaning are ignored.

    Of a directory's names each comma is written `\,`, and any other backslash stays.
    """
    jwt = await open_verifier(
        role_claim="groups",
        role_map="leads:supervisor,org:support:agent",
        teams_claim="groups",
        team_map="desk-returns:returns,vip:vip,desk-refunds:returns",
    )
    agent = await jwt.verify(issuer.sign(groups=["staff", "org:support", "desk-returns", "desk-refunds"], role=None))
    assert (agent.role, agent.teams) == ("agent", frozenset({"returns"}))
    lead = await jwt.verify(issuer.sign(groups=["org:support", "leads"], role=None))
    assert (lead.role, lead.teams) == ("supervisor", frozenset())
    assert (await jwt.verify(issuer.sign(groups="leads"))).role == "supervisor"
    role_map = r"cn=leads\,ou=desk:supervisor,CORP\agents:agent,cn=Lan\\, Ann\,ou=desk:analyst"
    jwt = await open_verifier(role_claim="groups", role_map=role_map)
    groups = {"cn=leads,ou=desk": "supervisor", r"CORP\agents": "agent", r"cn=Lan\, Ann,ou=desk": "analyst"}
    for group, role in groups.items():
        assert (await jwt.verify(issuer.sign(groups=[group], role=None))).role == role


@each_row("groups", [["staff"], [], None, "agent", ["agent"], [["leads"]], {"leads": True}])
async def test_caller_without_a_mapped_group_is_refused(issuer, open_verifier, groups):
    """With a map, the name of a role is no role."""
    jwt = await open_verifier(role_claim="groups", role_map="leads:supervisor")
    assert "no group of SUPPORT_JWT_ROLE_MAP" in await refusal(jwt, issuer.sign(groups=groups))


@each_row("header", [{"alg": "none"}, {"alg": "None"}, {"alg": "NONE", "kid": "rsa"}, {}, {"alg": None}])
async def test_unsigned_token_is_refused(open_verifier, header):
    jwt = await open_verifier()
    for signature in ("", "x", encoded(b"\x00" * 32)):
        await refusal(jwt, f"{encoded(header)}.{encoded(valid_claims())}.{signature}")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_public_key_is_never_used_as_a_shared_secret(issuer, open_verifier, algorithm):
    """A shared secret in a key set is ignored."""
    shared = OctKey.import_key("s" * int(algorithm[2:]), {"kid": "secret"})
    issuer.serve_document("/jwks", {"keys": [*issuer.document["keys"], shared.as_dict(private=True)]})
    jwt = await open_verifier()
    await refusal(jwt, issuer.sign("secret", algorithm, key=shared))
    assert await jwt.verify(issuer.sign())
    public = issuer.keys["rsa"]
    pem, document = public.as_pem(private=False), json.dumps(public.as_dict(private=False)).encode()
    text = f"{encoded({'alg': algorithm, 'kid': 'rsa'})}.{encoded(valid_claims())}"
    for secret in (pem, public.as_der(private=False), document, pem.strip(), b""):
        await refusal(jwt, f"{text}.{encoded(hmac.new(secret, text.encode(), f'sha{algorithm[2:]}').digest())}")


@pytest.mark.parametrize(
    ("algorithm", "designed"), [("ES256", "P-384"), ("ES384", "P-256"), ("RS256", "P-256"), ("EdDSA", "P-256")]
)
async def test_algorithm_must_match_the_key(issuer, open_verifier, algorithm, designed):
    issuer.add_key("ec", "EC", designed)
    jwt = await open_verifier()
    token = f"{encoded({'alg': algorithm, 'kid': 'ec'})}.{encoded(valid_claims())}.AAAA"
    assert "unknown key" in await refusal(jwt, token)


async def test_key_is_used_only_for_its_declared_purpose(issuer, open_verifier):
    issuer.add_key("ps", "RSA", 2048, alg="PS256")
    issuer.add_key("enc", "RSA", 2048, use="enc")
    jwt = await open_verifier()
    assert await jwt.verify(issuer.sign("ps", "PS256"))
    bare = {name: issuer.keys[name].as_dict(private=True) for name in ("ps", "enc")}
    for name, described in bare.items():
        free = generate_key("RSA", 2048).import_key({k: v for k, v in described.items() if k not in ("alg", "use")})
        await refusal(jwt, issuer.sign(name, "RS256", key=free))


async def test_signature_of_an_unknown_key_is_refused(issuer, open_verifier):
    """Whatever the header says about where the key is."""
    jwt = await open_verifier()
    stranger = generate_key("RSA", 2048, {"kid": "rsa"})
    public = stranger.as_dict(private=False)
    lies = f"{issuer.url}/lies"
    for header in ({}, {"jwk": public}, {"jku": lies}, {"x5u": lies}, {"x5c": ["MIIB"]}, {"x5t": "AAAA"}):
        await refusal(jwt, signed(header, valid_claims(), stranger))
    assert issuer.calls == ["/jwks"]


@each_row(
    "key_id",
    [
        *("other", "", "../../../dev/null", "/dev/null", "rsa' OR '1'='1", "rsa\x00", "http://127.0.0.1/jwks"),
        *("x" * 300, 1, True, [], ["rsa"], {"kid": "rsa"}, 1.5),
    ],
)
async def test_unknown_key_id_is_refused(issuer, open_verifier, key_id):
    """The id is used for nothing but the lookup. It must be a text."""
    token = f"{encoded({'alg': 'RS256', 'kid': key_id})}.{issuer.sign().partition('.')[2]}"
    assert isinstance(key_id, str) == ("unknown key" in await refusal(await open_verifier(), token))


async def test_token_without_a_key_id_uses_the_only_matching_key(issuer, open_verifier):
    """It is refused if two keys match."""
    token = signed({"kid": None}, valid_claims(), issuer.keys["rsa"])
    issuer.add_key("ec", "EC", "P-256")
    assert await (await open_verifier()).verify(token)
    issuer.add_key("second", "RSA", 2048)
    await refusal(await open_verifier(), token)


@each_row(
    "header",
    [
        *({"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": "b64"}, {"crit": ["b64"], "b64": False}, {"b64": False}),
        {"crit": ["http://example.invalid/x"], "http://example.invalid/x": True},
    ],
)
async def test_critical_header_extensions_are_refused(issuer, open_verifier, header):
    token = signed(header, valid_claims(), issuer.keys["rsa"])
    assert "header" in await refusal(await open_verifier(), token)


NOW = 1_800_000_000  # s since the epoch, of a clock that the tests turn
LATER = 4_000_000_000  # the same in every process that collects these tests
WRONG_CLAIMS = [
    *({"iss": value} for value in (None, "", "https://id.example", "https://evil.example/", [ISSUER], 1, True)),
    *({"aud": value} for value in (None, "", "other", "supportx", ["other"], [], [1], [[AUDIENCE]], 1, {"support": 1})),
    {"aud": [AUDIENCE, 7]},
    *({"sub": value} for value in (None, "", 7, [], ["user-17"], {"a": 1}, True, "a\nb", "x" * 129, "\ud800")),
    *({"exp": value} for value in (None, "", "soon", str(LATER), True, [LATER], {})),
    *({"nbf": value} for value in (LATER, "x", True, [0])),
    *({"iat": value} for value in (LATER, "x", True, [0])),
    *({"role": value} for value in (None, "", "root", "Supervisor", "agent ", 1, ["agent", "supervisor"])),
    *({"role": value} for value in ([], [[]], {})),
    *({"teams": value} for value in ("vip", [1], [""], ["a\nb"], {"vip": 1}, ["x"] * 65, ["x" * 37], True)),
    {"role": "agent", "sub": None},
    {"role": "customer", "sub": "x" * 37},
]


@each_row("claims", WRONG_CLAIMS)
async def test_invalid_claim_is_refused_and_named(issuer, open_verifier, claims):
    whole = {name: value for name, value in (valid_claims() | claims).items() if value is not None}
    message = await refusal(await open_verifier(), signed({}, whole, issuer.keys["rsa"]))
    assert repr(next(reversed(claims))) in message


async def test_token_is_valid_from_nbf_to_exp(issuer, open_verifier):
    """With the leeway, also for tokens that were verified before."""
    clock = [float(NOW)]
    jwt = await open_verifier(now=lambda: clock[0])
    token = issuer.sign(nbf=NOW, iat=NOW - 60, exp=NOW + 60)
    clock[0] = NOW - LEEWAY - 1
    assert "'nbf'" in await refusal(jwt, token)
    for clock[0] in (NOW - LEEWAY, NOW, NOW + 59 + LEEWAY):
        assert await jwt.verify(token)
    clock[0] = NOW + 60 + LEEWAY
    await refusal(jwt, token, "token_expired")
    fresh = await open_verifier(now=lambda: clock[0])
    await refusal(fresh, token, "token_expired")


@each_row(
    "payload",
    [
        *(b'{"role": "customer", %s, "role": "supervisor"}', b'{%s, "sub": "someone-else"}'),
        *(b'{%s, "exp": 99999999999}', b'{%s, "x": {"a": 1, "a": 2}}', b'{%s, "x": NaN}', b'{%s, "x": Infinity}'),
        b'{%s, "x": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        *(b"[{%s}]", b'"%s"', b"{%s} {}", b"{%s", b"\xff{%s}", b""),
    ],
)
async def test_ambiguous_payload_is_refused(issuer, open_verifier, payload):
    """Repeated claims, and anything but a plain JSON object, even if signed correctly."""
    inside = json.dumps(valid_claims()).encode()[1:-1]
    await refusal(await open_verifier(), signed({}, payload.replace(b"%s", inside), issuer.keys["rsa"]))


async def test_altered_token_is_refused(issuer, open_verifier):
    """One character changed, removed or added, or a header of which there are two readings."""
    jwt = await open_verifier()
    token = issuer.sign()
    head, payload, signature = token.split(".")
    other = encoded(valid_claims() | {"sub": "someone-else"})
    ambiguous = (
        b'{"alg": "none", "alg": "RS256", "kid": "rsa"}',
        b'{"alg": "RS256", "kid": "other", "kid": "rsa"}',
        *(b'["RS256"]', b'"RS256"', b"{", b"[" * 3000, b"\xff", b""),
    )
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    touched = [
        *(f"{encoded(header)}.{payload}.{signature}" for header in ambiguous),
        token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1],  # differs in bits that are no part of the signature
        *(f"{head}.{other}.{signature}", f"{head}.{payload}.", f"{head}.{payload}", f"{head}..{signature}"),
        *(f".{payload}.{signature}", f"{head}=.{payload}.{signature}", f"{head}.{payload}.{signature[:-4]}"),
        *(f"{head}\n.{payload}.{signature}", f"{head}.{payload} .{signature}", f"{head}.{payload}.\udcff"),
        *(f"{token}.x", f"{token}.x.y", f"{token}=", f"{token}AAAA", f"{token}!", f" {token}"),
        *(token.swapcase(), token[::-1], "..", ".", "", "é.é.é", "\udcff.\udcff.\udcff", "x" * 8192, "a." * 4096),
    ]
    for each in touched:
        await refusal(jwt, each)
    assert await jwt.verify(token)


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.dictionaries(st.text(max_size=5), st.text(max_size=5))), max_size=5)
)
def test_any_text_is_refused_as_an_invalid_token(parts):
    token = ".".join(map(encoded, parts))
    jwt = JwtVerifier(read_nothing, jwt_settings(), required=False)
    with pytest.raises(Unauthenticated):
        asyncio.run(jwt.verify(token))


async def read_nothing():
    return b'{"keys": []}'


async def test_cache_of_verified_tokens_is_limited(issuer, open_verifier):
    """It holds hashes and no tokens."""
    jwt = await open_verifier(options={"max_cached_tokens": 3})
    tokens = [issuer.sign(sub=f"user-{number}") for number in range(5)]
    for token in tokens:
        await jwt.verify(token)
    cached = [*jwt._verified]  # noqa: SLF001 - memory that nothing shows
    assert cached == [sha256(token.encode()).digest() for token in tokens[-3:]]
    for number, token in enumerate(tokens):
        assert (await jwt.verify(token)).name == f"user-{number}"


def test_library_has_only_the_allowed_algorithms():
    """Whatever was verified before."""
    with pytest.raises(UnsupportedAlgorithmError):
        _AllowedAlgorithms(algorithms=["RS256"]).get_alg("HS256")
