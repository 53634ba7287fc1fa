"""Fixtures: callers with and without rights, and an issuer of JWTs."""

from tests.support.access.fixtures import issuer  # noqa: F401 - fixtures
from tests.support.access.principals import principals, shared_principals  # noqa: F401 - fixtures
from tests.support.links import open_owned  # noqa: F401 - fixtures
