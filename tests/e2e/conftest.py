"""What tests of processes share: folders with a migrated database, and a service that no test changes."""

import shutil

import pytest
import pytest_asyncio

from tests.support.process import running
from tests.support.servers import free_port


def migrated(folder, template):
    """Put a migrated, empty database into a folder, where a service expects it; return the folder."""
    (folder / "var").mkdir()
    shutil.copy(template, folder / "var" / "support.db")
    return folder


@pytest.fixture
def migrated_folder(tmp_path, sqlite_template):
    """The folder of a service that has migrated its database: the next start is faster."""
    return migrated(tmp_path, sqlite_template)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_address(processes, sqlite_template, tmp_path_factory):
    """The address of a service that tests share. They use cases of their own, and change nothing else."""
    folder = migrated(tmp_path_factory.mktemp("shared"), sqlite_template)
    address = f"http://127.0.0.1:{(port := free_port())}"
    async with running("serve", cwd=folder, SUPPORT_PORT=str(port), SUPPORT_LOG_LEVEL="warning") as service:
        await service.wait_until_ready(address)
        yield address
