"""The commands about attachments, in the test's own process."""

import json
from datetime import timedelta

from support_service.attachments.model import FileTotals
from support_service.commands.attachments import run_scrub
from support_service.commands.offload import FormerCopies
from tests.support.calls import open_case, upload


async def test_a_scrub_of_whole_files_says_so(client, settings, capsys):
    """Where every file is what it was the summary is the only line, and the status is 0."""
    await upload(client, await open_case(client))
    capsys.readouterr()
    assert await run_scrub(settings, sample=1.0) == 0
    assert json.loads(capsys.readouterr().out) == {"summary": True, "ok": 1, "mismatch": 0}


class Due:
    """A remover that finds a file of five bytes at each turn."""

    async def run(self):
        """Remove it."""
        return FileTotals(1, 5)


async def test_what_is_removed_during_a_move_counts():
    """The sum has what the turns in between removed, and the last one."""
    copies = FormerCopies(Due(), timedelta(0))
    await copies.run()
    assert await copies.finish(wait=True) == FileTotals(2, 10)
