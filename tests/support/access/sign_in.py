"""A browser that signs in at a provider, and the service that it signs in to."""

import re
from dataclasses import replace

import pytest
from yarl import URL

from support_service.platform.access.timings import AccessTimings, JwksTimings, SignInTimings
from tests.support.access.provider import CLIENT_ID, SECRET, FakeProvider
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.timings import patient_timings

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
SECURE = {"X-Forwarded-Proto": "https"}
PATIENT = SignInTimings(http_timeout=2 * GENEROUS_TIMEOUT, check_interval=0, refresh_wait=2 * GENEROUS_TIMEOUT)
# Each request asks the provider for a newer ID token.
EAGER = replace(PATIENT, refresh_early=1_000_000, retry_interval=0)


def timings(sign_in=PATIENT):
    """Timings of a service that asks for unknown keys at once."""
    return patient_timings(access=AccessTimings(sign_in=sign_in, jwks=JwksTimings(unknown_key_interval=0)))


@pytest.fixture
async def provider():
    provider = FakeProvider()
    await provider.open()
    yield provider
    await provider.close()


@pytest.fixture
def variables(provider, tmp_path):
    """The variables of a service whose users sign in at the provider."""
    return variables_of(provider, tmp_path)


def variables_of(provider, folder):
    """Return these variables. The secret is in a file of the folder."""
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n")
    return {
        "SUPPORT_AUTH": "jwt",
        "SUPPORT_OIDC_ISSUER": provider.issuer,
        "SUPPORT_OIDC_CLIENT_ID": CLIENT_ID,
        "SUPPORT_OIDC_CLIENT_SECRET_FILE": str(secret),
        "SUPPORT_JWT_ROLE_CLAIM": "groups",
        "SUPPORT_JWT_ROLE_MAP": "support-leads:supervisor,support-agents:agent",
        "SUPPORT_TRUSTED_PROXIES": "127.0.0.0/8",
    }


async def begin(client, page="/console/", **headers):
    """Ask for the sign-in; return the provider's address that the browser is led to."""
    response = await client.get("/console/login", params={"next": page}, headers=headers, allow_redirects=False)
    assert response.status == 302, await response.text()
    return response.headers["Location"]


async def come_back(client, address, **headers):
    """Follow the provider's redirect to the service; return the response."""
    return await client.get(URL(address).path_qs, headers=headers, allow_redirects=False)


async def sign_in(client, provider, page="/console/", **changes):
    return await come_back(client, provider.approve(await begin(client, page), **changes))


async def failure(response, status):
    """Return why a sign-in failed, as its page says; fail unless it has this status and starts no session."""
    assert (response.status, response.content_type) == (status, "text/html")
    assert "support-session" not in response.headers.get("Set-Cookie", "")
    return re.search(r'data-failure="(\w+)"', await response.text())[1]


async def me(client, **headers):
    response = await client.get("/support/me", headers=headers)
    assert response.status == 200, await response.text()
    return await response.json()
