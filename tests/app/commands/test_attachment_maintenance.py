"""The attachment commands, in the test's own process."""

import json
from argparse import Namespace
from datetime import timedelta

from support_service.attachments.garbage import CollectedGarbage
from support_service.cases.model.files import FileTotals
from support_service.commands.attachments import FormerCopyRemoval, scrub
from tests.support.calls import open_case, upload


async def test_scrub_of_intact_files_prints_only_a_summary(client, settings, capsys):
    """The status is 0."""
    await upload(client, await open_case(client))
    capsys.readouterr()
    assert await scrub(settings, Namespace(sample=1.0)) == 0
    assert json.loads(capsys.readouterr().out) == {"summary": True, "ok": 1, "mismatch": 0}


class FiveByteRemover:
    """A garbage collector that removes a file of five bytes in each run."""

    async def run(self):
        """Return the totals of one removed file."""
        return CollectedGarbage(FileTotals(1, 5), 0)


async def test_files_removed_during_an_offload_count(constants):
    """The totals include the removals during the offload and the last one."""
    constants("attachments.maintenance.offload", DELETE_GRACE=timedelta(0))
    copies = FormerCopyRemoval(FiveByteRemover())
    await copies.delete_due()
    assert await copies.finish(wait=True) == FileTotals(2, 10)
