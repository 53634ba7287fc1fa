"""An issuer of JWTs, and a provider with a service whose users sign in there."""

from tests.support.access.fixtures import issuer  # noqa: F401 - fixtures
from tests.support.access.sign_in import provider, variables  # noqa: F401
