"""Client addresses behind trusted proxies, and the address that a limit counts."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from multidict import istr

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

FORWARDED_FOR = istr("X-Forwarded-For")
UNKNOWN_ADDRESS = "unknown"  # shared by all clients whose address is unknown
MAX_FORWARDED_ADDRESSES = 32  # addresses of X-Forwarded-For that are evaluated


class TrustedProxies:
    """The proxies whose forwarded client address and scheme are trusted. Headers from other peers are ignored."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def client_address(self, peer: str | None, forwarded: Sequence[str] = ()) -> str:
        """Return the client's address: the last one in X-Forwarded-For that is not a trusted proxy, or else the peer's.

        Entries before an entry that is not an address are ignored, because no trusted proxy wrote them.
        """
        client = peer or UNKNOWN_ADDRESS
        if not self._trusted or not self.trusts(client):
            return client
        for entry in reversed(",".join(forwarded).split(",")[-MAX_FORWARDED_ADDRESSES:]):
            address = _parse_address(entry)
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        return client

    def scheme(self, peer: str | None, forwarded: Sequence[str] = ()) -> str:
        """Return the scheme of the client's request: `https` if a trusted proxy reports it, else `http`.

        The last value of X-Forwarded-Proto counts, because the nearest proxy wrote it.
        """
        if not forwarded:
            return "http"
        nearest = forwarded[-1].rpartition(",")[2].strip().lower()
        return "https" if nearest == "https" and self.trusts(peer) else "http"

    def trusts(self, peer: str | None) -> bool:
        """Return True if this is the address of a trusted proxy."""
        address = _parse_address(peer or "") if self._trusted else None
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(maxsize=4096)
def rate_limit_address(address: str) -> str:
    """Return the address that a limit counts. For IPv6 this is the /64 network, because a client can use all of it."""
    parsed = _parse_address(address)
    if parsed is None:
        return UNKNOWN_ADDRESS
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)  # noqa: PLR2004 - IPv6


@lru_cache(maxsize=4096)
def _parse_address(text: str) -> Address | None:
    """Parse an address, with or without port or zone. An IPv4-mapped IPv6 address becomes an IPv4 address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
