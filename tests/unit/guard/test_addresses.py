"""Whose request it is: proxies are believed only where they are listed."""

from ipaddress import ip_network

from support_service.guard.addresses import MAX_FORWARDED_ADDRESSES, UNKNOWN_ADDRESS, TrustedProxies, rate_limit_address
from tests.support.each import each_row

TRUSTED = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@each_row(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # anyone may write the header
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),  # what the client made up stands before
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.2.3.4,10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["10.2.3.4"], "10.2.3.4"),
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        (None, ["198.51.100.7"], UNKNOWN_ADDRESS),
    ],
)
def test_client_is_the_last_address_that_is_no_trusted_proxy(peer, forwarded, client):
    """Addresses before it are unverified."""
    assert TRUSTED.client_address(peer, forwarded) == client


def test_forwarding_header_is_ignored_by_default():
    assert TrustedProxies().client_address("10.0.0.1", ["198.51.100.7"]) == "10.0.0.1"
    assert not TrustedProxies().trusts("127.0.0.1")


def test_long_forwarding_header_is_read_up_to_a_limit():
    assert TRUSTED.client_address("10.0.0.1", ["198.51.100.7" + ",10.0.0.2" * MAX_FORWARDED_ADDRESSES]) == "10.0.0.2"


@each_row(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", UNKNOWN_ADDRESS),
        ("nonsense", UNKNOWN_ADDRESS),
    ],
)
def test_address_is_reduced_to_a_rate_key(address, counts_as):
    """An IPv6 network of /64 is one client, and invalid addresses share one key."""
    assert rate_limit_address(address) == counts_as
