"""An issuer of JWTs."""

from tests.support.access.fixtures import issuer  # noqa: F401 - fixtures
