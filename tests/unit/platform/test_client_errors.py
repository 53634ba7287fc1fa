"""Errors of HTTP clients are told without names of exceptions."""

import socket

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

from support_service.platform.http_client import describe_client_error
from tests.support.each import each_row

KEY = ConnectionKey("orders", 8080, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


@each_row(
    ("failure", "text"),
    [
        (
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known")),
            "can't connect to orders:8080: Name or service not known",
        ),
        (
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connect call failed ('10.0.0.7', 8080)")),
            "can't connect to orders:8080: Connection refused",
        ),
        (aiohttp.ClientConnectorError(KEY, TimeoutError()), "can't connect to orders:8080: no answer in time"),
        (aiohttp.ServerDisconnectedError(), "the server closed the connection without an answer"),
        (aiohttp.ServerTimeoutError(), "no answer in time"),
        (TimeoutError(), "no answer in time"),
        (aiohttp.InvalidURL("http://a b"), "the URL is not a valid http or https URL"),
        (aiohttp.ClientOSError(104, "x"), "the connection broke: Connection reset by peer"),
        (aiohttp.ClientConnectionError("it is closed"), "the connection broke: it is closed"),
        (aiohttp.ClientPayloadError("it ended"), "the answer can't be read: it ended"),
        (KeyError("id"), "the answer has another form than expected: is this the URL of a support-service?"),
        (Exception("a\nb"), "a b"),
        (Exception(), "Exception"),
    ],
)
def test_describe_client_error(failure, text):
    assert describe_client_error(failure) == text
