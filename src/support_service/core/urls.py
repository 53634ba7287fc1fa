"""Checks of web addresses, for settings and for arguments."""

import re
from urllib.parse import urlsplit


def http_url(value: str) -> str:
    """Return an address without a slash at its end; raises ValueError with what is allowed."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("an address that starts with http:// or https://")
    check_port(value)
    if not _is_host(urlsplit(value).hostname or "") or re.search(r"\s", value):
        raise ValueError("an address that names a host after http:// or https://, and has no spaces")
    return value.rstrip("/")


def base_url(value: str) -> str:
    """Return the address of a service, to which paths are appended; raises ValueError with what is allowed."""
    if "?" in value or "#" in value:
        raise ValueError("an address without a query and a fragment, since paths are appended to it")
    return http_url(value)


def check_port(value: str) -> None:
    """Raise ValueError with what is allowed, and without the address, where its port is not a port."""
    try:
        _ = urlsplit(value).port
    except ValueError:  # its text has what it took for the port, which may be half a password
        raise ValueError(
            "an address whose port is a number up to 65535; in a password / is written %2F, ? %3F, # %23 and @ %40"
        ) from None


def _is_host(name: str) -> bool:
    try:
        return bool(name.encode("idna"))  # the encoding that a lookup of the name uses
    except UnicodeError:
        return False
