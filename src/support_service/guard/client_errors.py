"""Errors of HTTP clients as sentences for people: without names of exceptions, with the address and the cause.

The address is the scheme, the host and the port: the path of a webhook may be its secret.
"""

import re
from collections.abc import Callable
from typing import Any

import aiohttp

from support_service.core.os_errors import describe_os_error, one_line

OTHER_SERVICE = "is this the URL of a support-service?"
# From here on aiohttp's text quotes what the server sent, which may repeat the path of the request.
QUOTED = re.compile(r":?\s*b?['\"].*", re.DOTALL)


def describe_client_error(failure: Exception) -> str:
    """Return why a request to a service failed, on one line."""
    for kinds, describe in DESCRIPTIONS:
        if isinstance(failure, kinds):
            return describe(failure)
    return one_line(failure)


def _unreadable(failure: aiohttp.ClientResponseError) -> str:
    reason = " ".join(QUOTED.sub("", failure.message).split())
    return f"the answer of {failure.request_info.real_url.origin()} can't be read: {reason}"


# The first row with the type of an error, or a base of it, describes the error.
DESCRIPTIONS: tuple[tuple[tuple[type[Exception], ...], Callable[[Any], str]], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError,),
        lambda failure: (
            f"the certificate of {failure.host}:{failure.port} is not valid: {failure.certificate_error.verify_message}"
        ),
    ),
    (
        (aiohttp.ClientConnectorError,),
        lambda failure: f"can't connect to {failure.host}:{failure.port}: {describe_os_error(failure.os_error)}",
    ),
    ((aiohttp.ServerDisconnectedError,), lambda _: "the server closed the connection without an answer"),
    ((TimeoutError,), lambda _: "no answer in time"),
    ((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError), lambda _: "the URL is not a valid http or https URL"),
    ((aiohttp.ContentTypeError,), lambda _: f"the answer is not JSON: {OTHER_SERVICE}"),
    ((aiohttp.ClientResponseError,), _unreadable),
    ((OSError,), lambda failure: f"the connection broke: {describe_os_error(failure)}"),
    ((aiohttp.ClientConnectionError,), lambda failure: f"the connection broke: {one_line(failure)}"),
    ((aiohttp.ClientError,), lambda failure: f"the answer can't be read: {one_line(failure)}"),
    ((ValueError, LookupError, TypeError), lambda _: f"the answer has another form than expected: {OTHER_SERVICE}"),
)
