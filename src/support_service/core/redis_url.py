"""URLs of Redis that name Sentinels: `redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DATABASE?OPTIONS`."""

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from support_service.core.database_url import options_of, with_options

SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
SENTINEL_PORT = 26379
_FORM = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<user>[^@/?]*@)?(?P<hosts>[^@/?]+)/(?P<service>[^/?]+)(?P<rest>(/\d*)?(\?.*)?)"
)


class SentinelUrl(NamedTuple):
    """The parts of a URL. `primary` is a URL of Redis. Its host stands for the primary that the Sentinels name."""

    sentinels: list[tuple[str, int]]
    user: str | None  # at the Sentinels
    password: str | None
    service: str
    primary: str


def parse_sentinel_url(url: str) -> SentinelUrl | None:
    """Return the parts of a URL, or None if it names no Sentinels. Raises ValueError for an invalid port."""
    found = _FORM.fullmatch(url)
    if found is None:
        return None
    options = options_of(url)
    user, password = (options.pop(f"sentinel_{name}", None) for name in ("username", "password"))
    parts = [urlsplit(f"//{text}") for text in found["hosts"].split(",")]
    primary = "{scheme}://{user}primary{rest}".format_map(found.groupdict(""))
    sentinels = [(each.hostname or "", each.port or SENTINEL_PORT) for each in parts]
    return SentinelUrl(sentinels, user, password, unquote(found["service"]), with_options(primary, options))
