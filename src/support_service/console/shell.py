"""The HTML document of every page: it loads the scripts, which render the page that the path names."""

from collections.abc import Sequence
from functools import cache

import htpy as h

from support_service.console.assets import assets

APP = "app.js"
TEXTS = {"en": "i18n/en.js", "vi": "i18n/vi.js"}


def shell(auth: str, page: str, language: str, data: Sequence[str]) -> str:
    """Return the document of a page as HTML.

    It names what the page will ask for: all modules of the page, the texts of the language, and the paths of `data`.
    A browser fetches them at once, instead of one after another as scripts come to need them. `page` is the path of the
    page's module. `auth` is the value of SUPPORT_AUTH; with `open`, pages offer no sign-in.
    """
    found = assets()
    return str(
        h.html(lang="en", data_auth=auth)[
            h.head[
                h.meta(charset="utf-8"),
                h.meta(name="viewport", content="width=device-width, initial-scale=1"),
                h.meta(name="color-scheme", content="light dark"),
                h.title["Support console"],
                h.link(rel="icon", href=found.url("icon.svg"), type="image/svg+xml"),
                h.link(rel="stylesheet", href=found.url("console.css")),
                h.script(type="module", src=found.url(APP)),
                (h.link(rel="modulepreload", href=found.url(path)) for path in _modules(page, language)),
                (h.link(rel="preload", as_="fetch", href=path, crossorigin="anonymous") for path in data),
            ],
            h.body[
                h.support_console,
                h.noscript[h.p["The console needs JavaScript."]],
            ],
        ]
    )


@cache
def _modules(page: str, language: str) -> list[str]:
    return assets().with_imports(APP, page, TEXTS[language])[1:]
