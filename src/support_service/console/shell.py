"""The HTML document of every page: it loads the scripts, which render the page that the path names."""

from functools import cache

import htpy as h

from support_service.console.assets import assets

# Modules that every page imports: named here, a browser fetches them at once instead of one level after another.
PRELOADED = (
    "vendor/lit-element/lit-element.js",
    "vendor/@lit/reactive-element/reactive-element.js",
    "vendor/@lit/reactive-element/css-tag.js",
    "vendor/lit-html/lit-html.js",
)


@cache
def shell(auth: str) -> str:
    """Return the document as HTML. `auth` is the value of SUPPORT_AUTH; with `open`, pages offer no sign-in."""
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
                (h.link(rel="modulepreload", href=found.url(path)) for path in PRELOADED),
                h.script(type="module", src=found.url("app.js")),
            ],
            h.body[
                h.support_console,
                h.noscript[h.p["The console needs JavaScript."]],
            ],
        ]
    )
