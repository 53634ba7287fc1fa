"""The test of the upgrade needs the package registry, so that `make test` leaves it out: see tests/long.py."""

import os

from tests.support.events.webhooks import endpoint  # noqa: F401 - a fixture

collect_ignore = [] if "UPGRADE_SECONDS" in os.environ else ["test_upgrade.py"]
