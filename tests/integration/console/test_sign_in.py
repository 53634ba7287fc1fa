"""Sign-in in Chromium at a certified provider, which is another site for the browser."""

from datetime import timedelta

import pytest
from playwright.async_api import expect

from support_service.platform.access.timings import AccessTimings, JwksTimings, SignInTimings
from tests.support.access.certified_provider import CertifiedProvider
from tests.support.access.provider import CLIENT_ID, SECRET
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.certificates import CertificateAuthority
from tests.support.console.browser import address_of, expect_good_looks, watched_console
from tests.support.console.proxy import running_proxy
from tests.support.timings import patient_timings

SIGN_IN = "Sign in with your company account"
# The session is always due: a request asks the provider for a newer ID token, unless another one is asking.
EAGER = SignInTimings(http_timeout=2 * GENEROUS_TIMEOUT, check_interval=0, refresh_early=1_000_000, retry_interval=0)
HASTY = SignInTimings(http_timeout=8, check_interval=0)


@pytest.fixture
def sign_in_timings():
    return EAGER


@pytest.fixture
def timings(sign_in_timings):
    """The timings of the service: it asks for unknown keys at once."""
    return patient_timings(access=AccessTimings(sign_in=sign_in_timings, jwks=JwksTimings(unknown_key_interval=0)))


@pytest.fixture
async def provider(servers, environment, tmp_path, make_client):
    """The certified provider, for the service that `client` talks to; requested before `client`."""
    folder = tmp_path / "provider"
    folder.mkdir()
    provider = CertifiedProvider(folder)
    secret = folder / "secret"
    secret.write_text(SECRET)
    environment |= {
        "SUPPORT_AUTH": "jwt",
        "SUPPORT_OIDC_ISSUER": provider.issuer,
        "SUPPORT_OIDC_CLIENT_ID": CLIENT_ID,
        "SUPPORT_OIDC_CLIENT_SECRET_FILE": str(secret),
        "SUPPORT_JWT_ROLE_CLAIM": "groups",
        "SUPPORT_JWT_ROLE_MAP": "support-leads:supervisor,support-agents:agent",
        "SUPPORT_TRUSTED_PROXIES": "127.0.0.0/8",
    }
    yield provider
    provider.kill()


@pytest.fixture
async def client(provider, make_client):
    """A service whose users sign in at the provider."""
    client = await make_client()
    provider.start(address_of(client))
    return client


async def sign_in(page, person):
    """Sign in from the page of the sign-in; the provider asks for a name."""
    await page.get_by_role("link", name=SIGN_IN).click()
    await page.get_by_label("Name").fill(person)
    await page.get_by_role("button", name="Continue").click()


async def test_person_signs_in_gets_new_rights_and_signs_out(provider, console):
    """Sign-in, a renewed session, and the logout at both; the address that led to the sign-in is kept."""
    page = await console.open("/console/?view=all")
    await expect_good_looks(page)
    await sign_in(page, "lan")
    await expect(page.get_by_role("banner")).to_be_visible()
    assert page.url == f"{console.address}/console/?view=all"
    await expect(page.locator(".live")).to_contain_text("live")
    await expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    stored = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert "eyJ" not in stored

    provider.set_people(lan=["support-leads"])

    async def has_new_rights():  # a request beside the one that asks the provider has the old rights, which are valid
        await page.reload()
        await expect(page.get_by_role("banner")).to_be_visible()
        return await page.get_by_role("link", name="Audit").count()

    await eventually(has_new_rights)

    console.refused = {401}  # of the stream, which ends before the browser has left the page
    await page.locator(".account summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="Sign me out").click()
    await expect(page.get_by_role("link", name=SIGN_IN)).to_be_visible()
    await page.goto("/console/")
    await page.get_by_role("link", name=SIGN_IN).click()
    await expect(page.get_by_label("Name")).to_be_visible()


@pytest.mark.long
async def test_person_who_is_not_let_in_reads_why(provider, console):
    """Without a mapped group, in either language, and with a way to sign in as another person; without a consent.

    The provider does not renew the session of a person who has left: the page asks for a sign-in.
    """
    console.refused = {401, 403}
    page = await console.open("/console/")
    await page.get_by_role("link", name=SIGN_IN).click()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_text("did not let you in")).to_be_visible()
    await page.goto("/console/")
    await sign_in(page, "lan")
    await expect(page.get_by_role("banner")).to_be_visible()
    provider.set_people(eve=["engineering"])
    await page.reload()
    await expect(page.get_by_role("link", name=SIGN_IN)).to_be_visible()
    page = await console.open("/console/")
    await sign_in(page, "eve")
    await expect(page.get_by_text("your account has no role here")).to_be_visible()
    await expect_good_looks(page)
    await page.get_by_role("button", name="Tiếng Việt").click()
    await page.get_by_role("link", name="Đăng nhập bằng tài khoản công ty").click()
    await expect(page.get_by_text("tài khoản chưa có vai trò nào ở đây")).to_be_visible()


@pytest.mark.long
async def test_session_goes_on_while_the_provider_is_away(provider, client, console):
    """The page of the sign-in names the provider. After a restart with another key, people sign in again."""
    console.refused = {401, 503}  # with another key, the session of the first page has ended
    page = await console.open("/console/")
    await sign_in(page, "lan")
    await expect(page.get_by_role("banner")).to_be_visible()
    provider.kill()
    await page.reload()
    await expect(page.get_by_role("banner")).to_be_visible()
    other = await console.open("/console/")
    await other.get_by_role("link", name=SIGN_IN).click()
    await expect(other.get_by_text("The sign-in provider does not answer at present.")).to_be_visible()
    provider.change_keys()
    provider.start(address_of(client))
    await sign_in(other, "lan")
    await expect(other.get_by_role("banner")).to_be_visible()


@pytest.mark.long
async def test_sign_in_over_https_behind_a_proxy(provider, client, browser, tmp_path):
    """With the cookies that only HTTPS and this host can set."""
    certificate = CertificateAuthority(tmp_path).issue(timedelta(days=1))
    forwarded = "http-request set-header X-Forwarded-Proto https"
    provider.kill()
    with running_proxy(tmp_path, address_of(client), forwarded, certificate=certificate) as address:
        provider.start(address)
        async with watched_console(browser, address) as console:
            page = await console.open("/console/", ignore_https_errors=True)
            await sign_in(page, "lan")
            await expect(page.get_by_role("banner")).to_be_visible()
            cookies = {each["name"]: each for each in await page.context.cookies(address)}
            assert {name: each["sameSite"] for name, each in cookies.items() if each["secure"]} == {
                "__Host-support-session": "Strict",
                "__Host-support-sign-in": "Lax",
            }
            await page.locator(".account summary").click()
            console.refused = {401}  # of the stream, which ends before the browser has left the page
            await page.get_by_role("button", name="Sign out").click()
            await page.get_by_role("button", name="Sign me out").click()
            await expect(page.get_by_role("link", name=SIGN_IN)).to_be_visible()
            assert page.url.startswith(address)


@pytest.mark.long
@pytest.mark.parametrize("sign_in_timings", [HASTY])
async def test_sign_in_does_not_wait_for_a_frozen_provider(provider, console):
    """It holds connections open without an answer."""
    console.refused = {503}
    page = await console.open("/console/")
    provider.freeze()
    await page.get_by_role("link", name=SIGN_IN).click()
    await expect(page.get_by_text("The sign-in provider does not answer at present.")).to_be_visible()
    provider.resume()
    await sign_in(page, "lan")
    await expect(page.get_by_role("banner")).to_be_visible()
