"""What the routes use: the database, the timelines and the folder of the files, opened with the application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
from fastapi import Depends, FastAPI, Request
from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from benchmarks.peer.settings import Settings
from benchmarks.peer.tables import Base
from benchmarks.peer.timeline import Timelines


@dataclass(frozen=True, slots=True)
class Resources:
    """The open resources of the application."""

    sessions: async_sessionmaker[AsyncSession]
    timelines: Timelines
    files: Path


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the resources, and create the tables where they are missing."""
    settings = Settings()
    settings.attachment_dir.mkdir(parents=True, exist_ok=True)
    engine = _engine(settings.database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    timeout = aiohttp.ClientTimeout(total=3)
    async with (
        aiohttp.ClientSession(settings.upstream_url, timeout=timeout) as http,
        Redis.from_url(settings.redis_url) as redis,
    ):
        app.state.resources = Resources(
            sessions=async_sessionmaker(engine, expire_on_commit=False),
            timelines=Timelines(http, redis, settings.timeline_ttl),
            files=settings.attachment_dir,
        )
        yield
    await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def configure(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA busy_timeout=30000")

    return engine


def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


Opened = Annotated[Resources, Depends(_resources)]


async def _session(resources: Opened) -> AsyncIterator[AsyncSession]:
    async with resources.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(_session)]
