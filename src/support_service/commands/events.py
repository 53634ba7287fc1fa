"""The `support-service events` commands: dead letters, webhook deliveries, and publishing events again."""

import argparse
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import print_summary, show_progress, time_cell
from support_service.commands.runtime import cli_principal, load_settings, run_on_database, with_settings
from support_service.core.clock import utc_now
from support_service.core.errors import problem
from support_service.events.broker.base import BrokerError

if TYPE_CHECKING:
    from support_service.events.broker.redis import RedisBroker
    from support_service.platform.database import Database, Row
    from support_service.platform.settings import Settings

MAX_LISTED_DELIVERIES = 1000  # webhook deliveries per listing
REPUBLISH_NOTES = """\
A running service publishes the events, in their order, before newer ones. It does so by itself after a failover of
Redis. Events are kept for an hour. Consumers recognize repeats by the event's id.

example:
  support-service events republish --since 10m
"""
DEAD_LETTER_PAGE = 50  # dead letters per read; each may have 256 KiB


def add_to(commands: grammar.Subcommands) -> None:
    """Add `events` to the commands."""
    what = "list and replay dead letters and webhook deliveries, and publish events again"
    nouns = commands.group("events", what, "KIND")
    _add_dead_letter_commands(nouns.group("dead-letters", "inbound events that could not be applied", "ACTION"))
    _add_webhook_commands(
        nouns.group("webhooks", "deliveries of events to the endpoints in SUPPORT_WEBHOOKS", "ACTION")
    )
    what = "publish events to the Redis stream again, with the same ids; webhooks get nothing twice"
    republish = nouns.add("republish", what, republish_events, epilog=REPUBLISH_NOTES)
    republish.add_argument(
        "--since",
        type=grammar.moment,
        required=True,
        metavar="TIME",
        help="what was published since then: a time with a time zone, or a duration before now, such as 10m",
    )
    republish.add_argument("--dry-run", action="store_true", help="publish nothing, only print the number of events")


def _add_dead_letter_commands(actions: grammar.Subcommands) -> None:
    actions.add(
        "list",
        "print dead letters with the reason, oldest first, one JSON object per line",
        with_settings(list_dead_letters),
    )
    what = "move dead letters to the end of their stream, to be applied again"
    replay = actions.add("replay", what, with_settings(replay_dead_letters))
    replay.add_argument(
        "ids", nargs="*", type=grammar.stream_entry_id, metavar="ID", help="id from the list (default: all)"
    )
    drop = actions.add("drop", "delete dead letters that can never be applied", with_settings(drop_dead_letters))
    drop.add_argument("ids", nargs="+", type=grammar.stream_entry_id, metavar="ID", help="id from the list")


def _add_webhook_commands(actions: grammar.Subcommands) -> None:
    listed = actions.add("list", "print deliveries, newest first, one JSON object per line", list_deliveries)
    listed.add_argument("--state", choices=("pending", "delivered", "failed"), help="only deliveries in this state")
    replay = actions.add("replay", "schedule deliveries again, with attempts for another day", replay_deliveries)
    replay.add_argument(
        "ids",
        nargs="*",
        type=grammar.positive_int,
        metavar="ID",
        help="id from the list (default: all failed deliveries)",
    )


def list_deliveries(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print the newest webhook deliveries, one JSON object per line."""
    from support_service.events import delivery_replay

    async def read_deliveries(database: "Database") -> "Sequence[Row]":
        return await delivery_replay.list_deliveries(database, arguments.state, MAX_LISTED_DELIVERIES)

    for row in run_on_database(load_settings(environ), read_deliveries):
        print(json.dumps(row._asdict(), default=datetime.isoformat))


def replay_deliveries(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Schedule webhook deliveries again: the named ones, or all that failed.

    Raises NotFound after that if an id is unknown.
    """
    from support_service.events.delivery_replay import replay_deliveries as replay

    chosen = sorted(set(arguments.ids))  # locked in this order, as everywhere

    async def schedule(database: "Database") -> list[int]:
        async with database.transaction() as tx:
            unknown = [each for each in chosen if not await replay(tx, utc_now(), [each])]
            replayed = len(chosen) - len(unknown) if chosen else await replay(tx, utc_now(), None)
        print(f"Scheduled {replayed} deliveries again.", flush=True)
        return unknown

    _check_known("delivery_not_found", "webhook delivery", run_on_database(load_settings(environ), schedule))


def republish_events(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Have the relay publish again what was published since a time."""
    from support_service.events import republishing
    from support_service.platform.unit_of_work import WriteOrigin

    since = time_cell(arguments.since)

    async def republish(database: "Database") -> int:
        chosen = await republishing.published_since(database, arguments.since)
        if chosen.events and not arguments.dry_run:
            await republishing.record(database, WriteOrigin(cli_principal()), chosen)
            with show_progress("republish", chosen.events, "events") as bar:
                await republishing.mark_to_be_repeated(database, chosen.first, chosen.last, bar.advance)
        return chosen.events

    events = run_on_database(load_settings(environ), republish)
    what = "Would publish" if arguments.dry_run else "A running service publishes"
    text = f"{what} {events} events again, those published since {since}."
    print_summary(text, events=events, since=arguments.since.isoformat(), dryRun=arguments.dry_run)


async def list_dead_letters(settings: "Settings", _: argparse.Namespace) -> None:
    """Print the dead letters, oldest first, one JSON object per line."""
    from support_service.events.dead_letters import shown_event

    after = ""
    async with open_redis_broker(settings) as (broker, stream):
        while page := await broker.dead_letters(stream, DEAD_LETTER_PAGE, after):
            for letter in page:
                shown = {"id": letter.id, "at": letter.at, "tries": letter.tries, "reason": letter.reason}
                print(_printable(json.dumps(shown | {"event": shown_event(letter)[0]}, ensure_ascii=False)))
            after = page[-1].id


async def replay_dead_letters(settings: "Settings", arguments: argparse.Namespace) -> None:
    """Move the named dead letters, or all of them, back to the end of their stream.

    Raises NotFound after that if an id is unknown.
    """
    ids = list(dict.fromkeys(arguments.ids))
    async with open_redis_broker(settings) as (broker, stream):
        unknown = [each for each in ids if not await broker.replay(stream, [each])]
        replayed = len(ids) - len(unknown)
        if not ids:
            # Stop at the last dead letter present at the start. A replayed event that fails again must not loop.
            last, after = await broker.last_dead_letter(stream), ""
            while last and (page := await broker.dead_letters(stream, DEAD_LETTER_PAGE, after)):
                after = page[-1].id
                replayed += await broker.replay(
                    stream, [each.id for each in page if _entry_sort_key(each.id) <= _entry_sort_key(last)]
                )
                if _entry_sort_key(after) >= _entry_sort_key(last):
                    break
    print(f"Replayed {replayed} dead letters.", flush=True)
    _check_known("dead_letter_not_found", "dead letter", unknown)


async def drop_dead_letters(settings: "Settings", arguments: argparse.Namespace) -> None:
    """Delete the named dead letters. Raises NotFound after that if an id is unknown."""
    ids = list(dict.fromkeys(arguments.ids))
    async with open_redis_broker(settings) as (broker, stream):
        unknown = [each for each in ids if not await broker.delete_dead_letters(stream, [each])]
    print(f"Dropped {len(ids) - len(unknown)} dead letters.", flush=True)
    _check_known("dead_letter_not_found", "dead letter", unknown)


def _check_known(code: str, what: str, unknown: Sequence[object]) -> None:
    """Raise NotFound if an id is unknown. What the command does to the other ids is done before."""
    if unknown:
        raise problem(code, f"There is no {what} {', '.join(map(str, unknown))}: the list has the ids")


def _printable(document: str) -> str:
    """Escape what a terminal would obey, such as U+009B: it is in strings of the JSON document only."""
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in document)


def _entry_sort_key(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


@asynccontextmanager
async def open_redis_broker(settings: "Settings") -> "AsyncIterator[tuple[RedisBroker, str]]":
    """Yield the broker, and the stream of inbound events. Raises UserError without a Redis that can be used."""
    from support_service.core.errors import UserError
    from support_service.events.broker.redis import RedisBroker

    url = settings.events_redis_url
    if url is None:
        raise UserError("Dead letters are stored only in Redis: set SUPPORT_EVENTS_REDIS_URL or SUPPORT_REDIS_URL")
    broker = RedisBroker(url)
    try:
        yield broker, settings.events.inbound_stream
    except BrokerError as fault:
        variable = "SUPPORT_EVENTS_REDIS_URL" if settings.events.redis_url else "SUPPORT_REDIS_URL"
        raise UserError(f"Redis at {variable} can't be used: {fault}") from fault
    finally:
        await broker.close()
