"""An issuer of JWTs."""

from tests.support.access.fixtures import issuer, open_verifier  # noqa: F401 - fixtures
