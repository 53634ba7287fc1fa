"""The pages of the console as files: where paths lead, how long browsers keep them, and their content policy."""

import gzip
import re

import pytest

from support_service.console.assets import load_assets
from tests.support.calls import expect_problem

PAGES = ["/console/", "/console/cases/some-id", "/console/oncall", "/console/audit", "/console/customers/{x}"]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; worker-src "
    "'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types lit-html"
)


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


async def test_root_leads_people_to_the_console_and_programs_to_the_description(client):
    """Caches keep the two answers apart."""
    for accept, location in (("text/html,*/*;q=0.8", "/console/"), ("*/*", "/docs"), ("", "/docs")):
        response = await client.get("/", headers={"Accept": accept}, allow_redirects=False)
        assert (response.status, response.headers["Location"], response.headers["Vary"]) == (302, location, "Accept")


@pytest.mark.parametrize("path", PAGES)
async def test_page_is_never_kept_and_allows_its_own_scripts_only(client, path):
    """The document names the current scripts, so a browser asks for it each time."""
    response = await client.get(path)
    assert (response.status, response.content_type) == (200, "text/html")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"] == POLICY
    for url in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', await response.text()):
        asset = await client.get(url)
        assert asset.status == 200, url
        assert asset.headers["Cache-Control"] == "public, max-age=31536000, immutable"


async def test_page_without_a_session_leads_to_the_sign_in_and_back(make_client, tmp_path):
    """The address that was asked for comes along, encoded."""
    file = tmp_path / "tokens.json"
    file.write_text('{"tokens": []}')
    client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(file))
    response = await client.get("/console/?view=mine&q=a", allow_redirects=False)
    assert response.headers["Location"] == "/console/sign-in?next=%2Fconsole%2F%3Fview%3Dmine%26q%3Da"
    assert (await client.get("/console/sign-in")).status == 200


async def test_assets_are_compressed_unless_the_client_refuses_it(client):
    """Both forms are the same file."""
    asset = load_assets().by_path["styles/base.css"]
    for accepted, coding in (
        *(("identity", None), ("gzip;q=0", None), ("identity, *;q=0", None)),
        *(("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("GZIP", "gzip")),
    ):
        response = await client.get(load_assets().url("styles/base.css"), headers={"Accept-Encoding": accepted})
        assert (response.headers.get("Content-Encoding"), await response.read()) == (coding, asset.body), accepted
    assert gzip.decompress(asset.compressed) == asset.body


async def test_asset_of_another_version_is_served_but_not_kept_and_no_other_file(client):
    """While replicas are replaced, a page of the old version gets scripts, and asks again next time."""
    response = await client.get("/console/static/0123456789abcdef/styles/base.css")
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    for path in ("vendor/manifest.json", "../shell.py", "missing.js", "vendor/lit-html/lit-html.d.ts"):
        response = await client.get(f"/console/static/{load_assets().version}/{path}")
        await expect_problem(response, 404, "route_not_found")


@pytest.mark.parametrize(
    ("path", "data"),
    [("/console/", ["/support/me"]), ("/console/cases/a%2Fb", ["/support/me", "/support/cases/a%2Fb"])],
)
async def test_page_names_what_it_will_ask_for(client, path, data):
    """All modules and the first data, so that a browser fetches them at once; none is named that it would not use."""
    text = await (await client.get(path)).text()
    modules = re.findall(r'rel="modulepreload" href="[^"]+/[0-9a-f]{16}/([^"]+)"', text)
    assert {"lib/api.js", "vendor/lit-html/lit-html.js", "parts/clock.js", "i18n/en.js"} <= set(modules)
    assert not {"pages/oncall.js", "parts/macro-list.js", "i18n/vi.js"} & set(modules)
    assert len(modules) == len(set(modules))
    assert re.findall(r'rel="preload" as="fetch" href="([^"]+)" crossorigin="anonymous"', text) == data


async def test_page_names_the_texts_of_the_browsers_language(client):
    """The scripts choose the same one."""
    languages = {"vi-VN,vi;q=0.9,en;q=0.8": "vi", "fr, VI;q=0.5": "vi", "en-GB,vi": "en", "eng,vi-x": "vi", "de": "en"}
    for accepted, language in languages.items():
        text = await (await client.get("/console/", headers={"Accept-Language": accepted})).text()
        assert re.findall(r"/i18n/(\w+)\.js", text) == [language]
