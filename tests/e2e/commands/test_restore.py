"""The drill of docs/operations/backup.md: a backup, changes that are lost, a restore, and what clients see after it.

RESTORE_CASES and RESTORE_CHANGES make it long.
"""

import os
import shutil
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import boto3
import pytest
from redis.asyncio import Redis

from tests.support.backups import PointInTime, PostgresDump, SqliteFile
from tests.support.calls import Case, add_message, eventually, expect_json, open_case, read_case, upload
from tests.support.crash.kills import print_figures
from tests.support.events.fixtures import read_published, send_inbound, shipment_event
from tests.support.process import run, running
from tests.support.servers import free_port
from tests.support.stream import follow

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

ORDER = {"type": "order", "orderId": "order-1"}
CASES = int(os.environ.get("RESTORE_CASES", "3"))
CHANGES = int(os.environ.get("RESTORE_CHANGES", "3"))  # of each case, before the backup and after it


@pytest.fixture(params=[SqliteFile, PostgresDump, PointInTime], ids=["sqlite", "dump", "point-in-time"])
def stored(request, postgres_cluster):
    """A database that can be backed up and restored, in a folder that the user `postgres` may enter."""
    folder = Path(tempfile.mkdtemp(prefix="support-backups-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    folder.chmod(0o755)
    database = request.param(folder, postgres_cluster)
    yield database
    database.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def variables(durable_redis, s3, tmp_path):
    """The variables of a service with Redis, and with files in a bucket that keeps versions."""
    bucket = s3.create_bucket()
    s3_client(s3).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return {
        "SUPPORT_PORT": str(free_port()),
        "SUPPORT_REDIS_URL": durable_redis.url,
        "SUPPORT_ATTACHMENT_STORE": "s3",
        "SUPPORT_S3_BUCKET": bucket,
        "SUPPORT_S3_ENDPOINT": s3.url,
        "SUPPORT_ATTACHMENT_DIR": str(tmp_path / "attachments"),
        "SUPPORT_LOG_LEVEL": "warning",
    }


def s3_client(s3):
    """Return a client of the object store, as operators have."""
    names = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests"}  # pragma: allowlist secret
    return boto3.client("s3", endpoint_url=s3.url, region_name="us-east-1", **names)


@dataclass
class Drill:
    """A service with a database that is restored, and what it acknowledged before the backup and after it."""

    stored: SqliteFile | PostgresDump
    variables: dict[str, str]
    redis: Redis
    folder: Path
    cases: list[Case] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # ids of messages
    undone: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)  # of the undone time

    @asynccontextmanager
    async def serving(self):
        """A session with the service, which runs for the length of a block, and is stopped."""
        address = f"http://127.0.0.1:{self.variables['SUPPORT_PORT']}"
        async with running("serve", cwd=self.folder, **self.environment) as service:
            await service.wait_until_ready(address)
            async with aiohttp.ClientSession(address) as session:
                yield session
            service.stop()
            _, _, logged = await service.wait_for_exit()
            assert "is left out" not in logged  # by the stream of changes

    @property
    def environment(self):
        """The variables of the service; a restored server may have another address."""
        return self.variables | {"SUPPORT_DATABASE_URL": self.stored.url}

    async def command(self, *arguments):
        return await run(*arguments, cwd=self.folder, **self.environment)

    async def change_all(self, session):
        """Add messages to each case; return their ids."""
        return [(await add_message(session, case))["id"] for case in self.cases for _ in range(CHANGES)]

    async def apply(self, session, *ids):
        """Send inbound events about the first case, and wait until it has them."""
        for number in ids:
            await send_inbound(self.redis, shipment_event(number, "order-1", trackingNumber=number))
        await eventually(lambda: has_events(session, self.cases[0], ids))

    async def lose(self, session):
        """Change what the backup has, and more; return a case and a file that are lost."""
        self.undone = await self.change_all(session)
        await self.apply(session, "late-1", "late-2")
        file = await upload(session, self.cases[1], b"lost")
        self.tags = {case["id"]: await tag_of(session, case) for case in self.cases}
        return await open_case(session), file

    async def check_tags(self, session):
        """Return how many of the former ETags are answered with 304, and how many accepted in If-Match."""
        not_modified = overwritten = 0
        for case in self.cases:
            path, tag = f"/support/cases/{case['id']}", self.tags[case["id"]]
            async with session.get(path, headers={"If-None-Match": tag}) as response:
                not_modified += response.status == 304
            async with session.patch(path, json={"subject": "Old"}, headers={"If-Match": tag}) as response:
                overwritten += response.status != 412
            assert number_of(await tag_of(session, case)) > number_of(tag)
        return not_modified, overwritten


async def test_restore_undoes_only_what_was_changed_after_the_backup(stored, variables, durable_redis, s3, tmp_path):
    """No ETag of the undone time is valid, lost inbound events come back once, and consumers are told."""
    async with Redis.from_url(durable_redis.url) as redis:
        drill = Drill(stored, variables, redis, tmp_path)
        async with drill.serving() as session:
            drill.cases = [await open_case(session, context=[ORDER]) for _ in range(CASES)]
            drill.kept = await drill.change_all(session)
            await drill.apply(session, "early")
            file = await upload(session, drill.cases[0], b"kept")
            await stored.back_up(drill.environment)
            lost, lost_file = await drill.lose(session)
            await expect_json(session.delete(file["uri"].rpartition("/")[0]), 204)
            await drill.command("sweep")  # deletes the bytes
            async with follow(session) as stream:
                await add_message(session, lost)
                await eventually(lambda: stream.changes)
            await eventually(lambda: is_published(redis, lost["id"], 2))
            status, _, errors = await drill.command("restored")
            assert (status, "The database is in use by " in errors, "stop all replicas" in errors) == (2, True, True)
        former = await newest_versions(redis)

        await stored.restore()
        status, planned, errors = await drill.command("restored", "--dry-run")
        assert (status, errors, planned["inboundEvents"]) == (0, "", 3)
        status, done, errors = await drill.command("restored")
        assert (status, errors, done["undoneAfter"]) == (0, "", planned["undoneAfter"])
        for missing in (1, 0):
            status, sweep, _ = await drill.command("sweep", "--dry-run")
            assert (status, sweep["missing"], sweep["young"]) == (missing, missing, 1)
            bring_back(s3, variables["SUPPORT_S3_BUCKET"])

        async with drill.serving() as session:
            async with follow(session, after=stream.last_id) as again:
                await eventually(lambda: again.resyncs)
            assert again.resyncs == ["foreign"]
            answers = [await status_of(session, uri) for uri in (f"/support/cases/{lost['id']}", lost_file["uri"])]
            assert (answers, await status_of(session, file["uri"])) == ([404, 404], 200)
            await eventually(lambda: has_events(session, drill.cases[0], ("early", "late-1", "late-2")))
            later = await drill.change_all(session)  # the counts of the undone time come again
            found = [await read_case(session, case) for case in drill.cases]
            ids = {message["id"] for case in found for message in case["messages"]}
            assert ids.issuperset(drill.kept + later)
            assert not ids.intersection(drill.undone)
            told = Counter(m["metadata"]["eventId"] for m in found[0]["messages"] if m["authorType"] == "bot")
            assert told == {"early": 1, "late-1": 1, "late-2": 1}
            not_modified, overwritten = await drill.check_tags(session)
            assert not_modified == overwritten == 0
            (event,) = await eventually(lambda: restores_published(redis))
            assert event["data"]["versionBase"] == done["versionBase"]
            await eventually(lambda: is_newer(redis, drill.cases, former))
        status, verdict, _ = await drill.command("audit", "verify")
        assert (status, verdict["holds"]) == (0, True)
    print_figures(
        f"{type(stored).__name__}: {len(drill.kept)} messages before the backup, missing "
        f"{len(set(drill.kept) - ids)}; {len(drill.undone)} after it, left {len(ids.intersection(drill.undone))}; "
        f"2 inbound events lost, applied twice {sum(number > 1 for number in told.values())}; {len(drill.cases)} ETags "
        f"of the undone time: answered with 304 {not_modified}, accepted in If-Match {overwritten}"
    )


async def restores_published(redis):
    """Return the published events that tell of a restore."""
    return [event for event in await read_published(redis) if event["type"] == "support.database.restored.v1"]


async def status_of(session, uri):
    async with session.get(uri) as response:
        return response.status


async def has_events(session, case, ids):
    """Return whether the case has a message about each of the inbound events."""
    found = (await read_case(session, case))["messages"]
    return {*ids} <= {message["metadata"]["eventId"] for message in found if message["authorType"] == "bot"}


async def tag_of(session, case):
    async with session.get(f"/support/cases/{case['id']}") as response:
        return response.headers["ETag"]


def number_of(tag):
    return int(tag.strip('"'))


async def is_published(redis, case_id, number):
    return sum(event["subject"] == case_id for event in await read_published(redis)) >= number


async def newest_versions(redis):
    """Return the newest version of each case that was published."""
    versions = {}
    for event in await read_published(redis):
        ticket = event["data"].get("ticket") or {}
        if ticket:
            versions[ticket["id"]] = max(versions.get(ticket["id"], 0), ticket["version"])
    return versions


async def is_newer(redis, cases, versions):
    """Return whether each of the cases has a newer version than before."""
    newest = await newest_versions(redis)
    return all(newest[case["id"]] > versions[case["id"]] for case in cases)


def bring_back(s3, bucket):
    """Remove the marks of deleted objects, as the page says."""
    client = s3_client(s3)
    for mark in client.list_object_versions(Bucket=bucket).get("DeleteMarkers", []):
        client.delete_object(Bucket=bucket, Key=mark["Key"], VersionId=mark["VersionId"])
