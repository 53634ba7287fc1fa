"""An issuer of JWTs."""

from tests.support.access.fixtures import issuer, open_jwt  # noqa: F401 - fixtures
