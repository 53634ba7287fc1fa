"""Whose request it is: a client's address behind the proxies that are trusted, and the address that a limit counts."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

UNKNOWN = "unknown"  # one name for every client whose address can't be told
MOST_HOPS = 32  # addresses of one X-Forwarded-For that are looked at


class Proxies:
    """The proxies whose word on a client's address and scheme is taken; from anyone else it is ignored."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def client(self, peer: str | None, forwarded: Sequence[str] = ()) -> str:
        """The client's address: of those in X-Forwarded-For the last that is no trusted proxy, or else the peer's.

        What stands before an entry that is no address was written by nobody who is trusted, and is not looked at.
        """
        client = peer or UNKNOWN
        if not self._trusted or not self.trusts(client):
            return client
        for entry in reversed(",".join(forwarded).split(",")[-MOST_HOPS:]):
            address = _read(entry)
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        return client

    def trusts(self, peer: str | None) -> bool:
        """Whether this is the address of a trusted proxy."""
        address = _read(peer or "") if self._trusted else None
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(maxsize=4096)
def counted(address: str) -> str:
    """What a limit counts an address as: an IPv6 client has a whole /64 to choose its address from."""
    found = _read(address)
    if found is None:
        return UNKNOWN
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else str(found)  # noqa: PLR2004 - IPv6


@lru_cache(maxsize=4096)
def _read(text: str) -> Address | None:
    """An address, with or without a port or a zone; an IPv4 address written as IPv6 is an IPv4 address."""
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
