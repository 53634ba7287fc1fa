"""What an operator does with events from the command line: look at those given up, send them again or drop them."""

import argparse
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import uvloop

from support_service import quantities
from support_service.commands.arguments import argument
from support_service.commands.base import with_database
from support_service.database import Database
from support_service.events import store
from support_service.events.broker import BrokerFault, DeadLetter
from support_service.events.redis_streams import RedisBroker
from support_service.settings import Settings, WrongSetting

MOST = 1000  # webhook deliveries in a list
PAGE = 50  # dead letters at once: each may have 256 KiB


def add_to(commands: Any) -> None:
    """Add `events` to the commands."""
    what = "look at events that were given up, and send them again"
    kinds = commands.add_parser("events", help=what, description=what).add_subparsers(required=True, metavar="KIND")
    what = "events of other services that could not take effect"
    letters = kinds.add_parser("dead-letters", help=what, description=what)
    actions = letters.add_subparsers(required=True, metavar="ACTION")
    what = "print them, one JSON object a line, with the reason"
    actions.add_parser("list", help=what, description=what).set_defaults(
        run=_run(lambda settings, _: list_dead_letters(settings))
    )
    what = "put them back at the end of their stream"
    replay = actions.add_parser("replay", help=what, description=what)
    replay.add_argument(
        "ids", nargs="*", type=argument(_entry), metavar="ID", help="as the list shows it (default: all)"
    )
    replay.set_defaults(run=_run(lambda settings, given: replay_dead_letters(settings, given.ids)))
    what = "forget those that can never take effect"
    drop = actions.add_parser("drop", help=what, description=what)
    drop.add_argument("ids", nargs="+", type=argument(_entry), metavar="ID", help="as the list shows it")
    drop.set_defaults(run=_run(lambda settings, given: drop_dead_letters(settings, given.ids)))
    what = "deliveries of events to the endpoints of SUPPORT_WEBHOOKS"
    actions = kinds.add_parser("webhooks", help=what, description=what).add_subparsers(required=True, metavar="ACTION")
    what = "print them, newest first, one JSON object a line"
    listed = actions.add_parser("list", help=what, description=what)
    listed.add_argument("--state", choices=("pending", "delivered", "failed"), help="only those in this state")
    listed.set_defaults(run=_on_database(lambda base, given: list_deliveries(base, given.state)))
    what = "make them again, for another day of tries"
    replay = actions.add_parser("replay", help=what, description=what)
    replay.add_argument(
        "ids",
        nargs="*",
        type=argument(quantities.count),
        metavar="ID",
        help="as the list shows it (default: all that failed)",
    )
    replay.set_defaults(run=_on_database(lambda base, given: replay_deliveries(base, given.ids)))


def _run(
    work: Callable[[Settings, argparse.Namespace], Coroutine[Any, Any, None]],
) -> Callable[[argparse.Namespace, Mapping[str, str]], None]:
    return lambda arguments, environ: uvloop.run(work(Settings.load(environ), arguments))


def _on_database(
    work: Callable[[Database, argparse.Namespace], Awaitable[None]],
) -> Callable[[argparse.Namespace, Mapping[str, str]], None]:
    return lambda arguments, environ: with_database(Settings.load(environ), lambda base: work(base, arguments))


def _entry(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,19}-[0-9]{1,19}", text):
        raise ValueError("an id as the list shows it")
    return text


async def list_dead_letters(settings: Settings) -> None:
    """Print the dead letters, oldest first, one JSON object a line."""
    async with _broker(settings) as (broker, stream):
        async for letter in _every(broker, stream):
            event = letter.event.decode(errors="replace")
            shown = {"id": letter.id, "at": letter.at, "tries": letter.tries, "reason": letter.reason}
            print(json.dumps(shown | {"event": event[:2000]}, ensure_ascii=False))


async def replay_dead_letters(settings: Settings, ids: Sequence[str]) -> None:
    """Put dead letters back at the end of their stream: those named, or all."""
    async with _broker(settings) as (broker, stream):
        replayed = await broker.replay(stream, ids) if ids else 0
        if not ids:  # only those that are there now: one that fails again is not to go round and round
            last, after = await broker.last_dead_letter(stream), ""
            while last and (page := await broker.dead_letters(stream, PAGE, after)):
                after = page[-1].id
                replayed += await broker.replay(stream, [each.id for each in page if _place(each.id) <= _place(last)])
                if _place(after) >= _place(last):
                    break
    print(f"Replayed {replayed} dead letters.")


async def drop_dead_letters(settings: Settings, ids: Sequence[str]) -> None:
    """Forget the dead letters that are named."""
    async with _broker(settings) as (broker, stream):
        dropped = await broker.drop(stream, ids)
    print(f"Dropped {dropped} dead letters.")


async def list_deliveries(base: Database, state: str | None) -> None:
    """Print the newest webhook deliveries, one JSON object a line."""
    names = ("id", "endpoint", "type", "state", "tries", "since", "due", "reason")
    for row in await store.list_deliveries(base, state, MOST):
        print(json.dumps(dict(zip(names, row, strict=True)), default=datetime.isoformat))


async def replay_deliveries(base: Database, ids: Sequence[int]) -> None:
    """Let webhook deliveries be made again: those named, or all that failed."""
    async with base.transaction() as tx:
        replayed = await store.replay_deliveries(tx, datetime.now(UTC), ids or None)
    print(f"{replayed} deliveries are made again.")


async def _every(broker: RedisBroker, stream: str) -> AsyncIterator[DeadLetter]:
    after = ""
    while page := await broker.dead_letters(stream, PAGE, after):
        for letter in page:
            yield letter
        after = page[-1].id


def _place(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


@asynccontextmanager
async def _broker(settings: Settings) -> AsyncIterator[tuple[RedisBroker, str]]:
    url = settings.events.redis_url or settings.timeline.redis_url
    if url is None:
        raise WrongSetting(
            "Set SUPPORT_EVENTS_REDIS_URL or SUPPORT_REDIS_URL: without Redis dead letters live in the service"
        )
    broker = RedisBroker(url)
    try:
        yield broker, settings.events.inbound_stream
    except BrokerFault as fault:
        raise WrongSetting(f"Redis can't be used: {fault}") from fault
    finally:
        await broker.close()
