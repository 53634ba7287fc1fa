"""The page for people: every call, nothing from elsewhere, and no script."""

import base64
import hashlib
import re
import shlex

from aiohttp import ClientSession
from yarl import URL

from support_service.api.openapi import document
from support_service.api.openapi import page as docs
from support_service.api.routes import ROUTES
from support_service.core.problem_codes import PROBLEM_CODES


async def test_the_page_shows_every_call(client):
    """Each call stands there with its command of curl, each code with its meaning; each link leads to a place there."""
    async with client.get("/docs") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        page = await response.text()
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in page
        assert f'id="{route.operation}"' in page
    assert page.count("<pre><code>curl ") == len(ROUTES)
    places = re.findall(r'id="([^"]+)"', page)
    assert len(set(places)) == len(places)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(places)
    assert {code.name for code in PROBLEM_CODES} <= set(places)


async def test_the_page_loads_nothing_else(client):
    """No script and no other host; the browser is told to take the page's own style alone, by its hash."""
    async with client.get("/docs") as response:
        policy = response.headers["Content-Security-Policy"]
        page = await response.text()
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#)([^"]+)"', page) == ["/openapi.json", "/asyncapi.json"]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "style=" not in page


async def test_a_command_of_the_page_works(client):
    """What a reader copies opens a case, and sends an event."""
    described = document.document()
    base = str(client.make_url("")).rstrip("/")
    for path, status in (("/support/cases", 201), ("/support/events", 202)):
        operation = described["paths"][path]["post"]
        command = docs.curl_command(base, "POST", path, operation, secured=False).replace("\\\n", "")
        name, url, *options = shlex.split(command)
        sent = dict(zip(options[::2], options[1::2], strict=True))
        header, _, value = sent["-H"].partition(": ")
        async with (
            ClientSession() as session,
            session.post(URL(url), data=sent["-d"], headers={header: value}) as answer,
        ):
            assert (name, answer.status) == ("curl", status), await answer.text()
