"""The routes of pages and assets, and where `/` leads."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote

from aiohttp import web

from support_service.console.assets import load_assets
from support_service.console.sessions import SESSION_PATH, sign_in, sign_out
from support_service.core.domain.macro_variables import VARIABLES
from support_service.core.http import accepts_gzip, router_path
from support_service.platform.access.authenticator import AUTHORIZATION
from support_service.platform.access.sessions import read_cookie
from support_service.service import SERVICE

HOME_PATH = "/console/"
SIGN_IN_PATH = "/console/sign-in"
API_DOCUMENTATION_PATH = "/docs"
CALLER_PATH = "/support/me"


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its path, its module, and the paths of the API that it always asks for first."""

    path: str
    module: str
    data: tuple[str, ...] = (CALLER_PATH,)


SIGN_IN_PAGE = Page(SIGN_IN_PATH, "pages/sign-in.js", data=())
PAGES = (
    Page(HOME_PATH, "pages/queue.js"),
    Page("/console/cases/{case_id}", "pages/case.js", (CALLER_PATH, "/support/cases/{case_id}")),
    Page("/console/oncall", "pages/oncall.js"),
    Page("/console/audit", "pages/audit.js"),
    Page("/console/team", "pages/team.js"),
    Page("/console/customers/{customer_id}", "pages/customer.js"),
)
ASSET_PATH = "/console/static/{version}/{path:.+}"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types lit-html"
)
APP_MODULE = "app.js"
STYLES = ("styles/base.css", "styles/queue.css", "styles/case.css", "styles/pages.css")
TEXT_MODULE_BY_LANGUAGE = {"en": "i18n/en.js", "vi": "i18n/vi.js"}
LANGUAGE_PATTERN = re.compile(r"(?:^|,)\s*(en|vi)\b", re.IGNORECASE)
IMMUTABLE_CACHE_CONTROL = "public, max-age=31536000, immutable"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page_handler(page: Page) -> Handler:
    """Return the handler of a page. A browser without a session is sent to the sign-in, and comes back from there.

    A proxy that signs people in sends a token with each request.
    """

    async def serve(request: web.Request) -> web.StreamResponse:
        has_sessions = request.app[SERVICE].sessions is not None
        if has_sessions and read_cookie(request) is None and AUTHORIZATION not in request.headers:
            return redirect(f"{SIGN_IN_PATH}?next={quote(str(request.rel_url), safe='')}")
        return shell_response(request, page)

    return serve


async def show_sign_in(request: web.Request) -> web.StreamResponse:
    """Show the sign-in; without authentication it leads to the queue."""
    if request.app[SERVICE].sessions is None:
        return redirect(HOME_PATH)
    return shell_response(request, SIGN_IN_PAGE)


def shell_response(request: web.Request, page: Page, status: int = 200, failure: str | None = None) -> web.Response:
    """Return the document of a page. `failure` is why a sign-in failed, for the page of the sign-in."""
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-store"}
    values = {name: quote(value, safe="") for name, value in request.match_info.items()}
    settings = request.app[SERVICE].settings
    state = {
        "data-auth": "proxy" if AUTHORIZATION in request.headers else settings.server.auth,
        "data-provider": settings.sign_in.issuer,
        "data-failure": failure,
        "data-variables": " ".join(VARIABLES),
    }
    text = shell_html(state, page.module, preferred_language(request), [path.format_map(values) for path in page.data])
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def redirect(location: str) -> web.Response:
    """Return an answer that leads to another address."""
    return web.Response(status=302, headers={"Location": location})


def preferred_language(request: web.Request) -> str:
    """Return the first of the console's languages that a browser accepts, as lib/i18n.js chooses it."""
    found = LANGUAGE_PATTERN.search(request.headers.get("Accept-Language", ""))
    return found[1].lower() if found else "en"


def add_routes(app: web.Application, auth: str) -> None:
    """Add the pages, and sign-in and sign-out unless authentication is off."""
    app.router.add_get("/", redirect_home)
    app.router.add_get(HOME_PATH.rstrip("/"), add_slash)
    for page in PAGES:
        app.router.add_get(router_path(page.path), page_handler(page))
    app.router.add_get(SIGN_IN_PATH, show_sign_in)
    app.router.add_get(ASSET_PATH, serve_asset)
    if auth != "open":
        app.router.add_post(SESSION_PATH, sign_in)
        app.router.add_delete(SESSION_PATH, sign_out)


async def redirect_home(request: web.Request) -> web.Response:
    """Send browsers to the console, and programs to the description of the API."""
    location = HOME_PATH if "text/html" in request.headers.get("Accept", "") else API_DOCUMENTATION_PATH
    return web.Response(status=302, headers={"Location": location, "Vary": "Accept"})


async def add_slash(_: web.Request) -> web.Response:
    """Send `/console` to `/console/`."""
    return redirect(HOME_PATH)


async def serve_asset(request: web.Request) -> web.Response:
    """Serve a file. One that a page of another version asks for, while replicas are replaced, is not kept."""
    found = load_assets()
    asset = found.by_path.get(request.match_info["path"])
    if asset is None:
        raise web.HTTPNotFound
    is_current = request.match_info["version"] == found.version
    headers = {"Cache-Control": IMMUTABLE_CACHE_CONTROL if is_current else "no-store", "Vary": "Accept-Encoding"}
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.compressed, content_type=asset.content_type, headers=headers)
    return web.Response(body=asset.body, content_type=asset.content_type, headers=headers)


def shell_html(state: Mapping[str, str | None], page: str, language: str, data: Sequence[str]) -> str:
    """Return the document of a page as HTML.

    It names what the page will ask for: all modules of the page, the texts of the language, and the paths of `data`.
    A browser fetches them at once, instead of one after another as scripts come to need them. `page` is the path of the
    page's module. `state` has attributes for the scripts, such as `data-auth`, the value of SUPPORT_AUTH.
    """
    import htpy as h  # most processes never serve a page

    found = load_assets()
    return str(
        h.html(state, lang="en")[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                h.meta(name="color-scheme", content="light dark"),
                h.title["Support console"],
                h.link(rel="icon", href=found.url("icon.svg"), type="image/svg+xml"),
                (h.link(rel="stylesheet", href=found.url(path)) for path in STYLES),
                h.script(type="module", src=found.url(APP_MODULE)),
                (h.link(rel="preload", as_="fetch", href=path, crossorigin="anonymous") for path in data),
                (h.link(rel="modulepreload", href=found.url(path)) for path in _modules_to_preload(page, language)),
            ],
            h.body[h.support_console, h.noscript[h.p["The console needs JavaScript."]]],
        ]
    )


@cache
def _modules_to_preload(page: str, language: str) -> list[str]:
    return load_assets().with_imports(APP_MODULE, page, TEXT_MODULE_BY_LANGUAGE[language])[1:]
