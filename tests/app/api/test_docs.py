"""The documentation page: it shows every operation, and loads no scripts and nothing from other hosts."""

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


async def test_page_shows_every_operation(client):
    """Each operation has a curl command, each problem code has an entry, and each link has a target.

    It loads no scripts and nothing from other hosts: its policy allows only the style of the page, by its hash.
    """
    async with client.get("/docs") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        page, policy = await response.text(), response.headers["Content-Security-Policy"]
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in page
        assert f'id="{route.operation}"' in page
    assert page.count("<pre><code>curl ") == len(ROUTES)
    anchors = re.findall(r'id="([^"]+)"', page)
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)
    assert {code.name for code in PROBLEM_CODES} <= set(anchors)
    assert re.findall(r'(?:src|href)="(?!#)([^"]+)"', page) == ["/openapi.json", "/asyncapi.json"]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert not [text for text in ("url(", "@import") if text in style]
    assert not [text for text in ("<script", "style=") if text in page]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}'" in policy


async def test_curl_commands_of_the_page_work(client):
    """The copied commands open a case and send an event."""
    described = document.openapi_document(ROUTES)
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
