"""A provider of OpenID Connect, and the variables of a service whose users sign in there."""

from tests.support.access.sign_in import provider, variables  # noqa: F401 - fixtures
