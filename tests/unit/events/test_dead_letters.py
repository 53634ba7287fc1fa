"""The commands about dead letters, where Redis is out of reach."""

from argparse import Namespace

import pytest

from support_service.commands.events import list_dead_letters
from support_service.core.errors import UserError
from support_service.platform.settings import Settings
from tests.support.servers import free_port


async def test_unreachable_redis_is_reported():
    settings = Settings.load({"SUPPORT_EVENTS_REDIS_URL": f"redis://127.0.0.1:{free_port()}"})
    with pytest.raises(UserError, match=r"^Redis at SUPPORT_EVENTS_REDIS_URL can't be used: "):
        await list_dead_letters(settings, Namespace())
