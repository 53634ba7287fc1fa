"""Bearer tokens: what is counted of each."""

import pytest

from support_service.core.errors import Unavailable
from support_service.platform.access.authenticator import ACCESS_AUTHENTICATIONS, BearerAuthenticator


class Unreachable:
    async def verify(self, _):
        raise Unavailable("keys_unavailable", "No key is known yet.")


class Counted(list):
    def add(self, row, number, labels):
        self.append((row, number, labels))

    def start_series(self, row, labels):
        """Count nothing: this token is not accepted."""


async def test_token_is_counted_as_unverified_while_keys_are_unavailable():
    """It is neither accepted nor refused."""
    counted = Counted()
    with pytest.raises(Unavailable):
        await BearerAuthenticator(Unreachable(), counted).authenticate(["Bearer token"])
    assert counted == [(ACCESS_AUTHENTICATIONS, 1, {"outcome": "unavailable"})]
