"""The application: `uvicorn benchmarks.peer.app:app`."""

import hashlib
from uuid import UUID, uuid4

import aiofiles
from fastapi import FastAPI, HTTPException, UploadFile
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.peer import models, tables
from benchmarks.peer.resources import Opened, Session, lifespan
from benchmarks.peer.timeline import own_entries

BLOCK = 256 * 1024  # bytes of an upload that are written at once

app = FastAPI(title="Support cases", lifespan=lifespan)
Instrumentator().instrument(app).expose(app)


@app.post("/support/cases", status_code=201)
async def create_case(new: models.NewCase, session: Session) -> models.Case:
    """Open a case with its first message."""
    row = tables.Case(
        **new.model_dump(exclude={"context", "initial_message"}),
        context=[reference.model_dump(by_alias=True) for reference in new.context],
        messages=[tables.Message(**new.initial_message.model_dump())] if new.initial_message else [],
        attachments=[],
    )
    session.add(row)
    await session.commit()
    case = models.Case.model_validate(row)
    case.timeline = own_entries(case)
    return case


@app.get("/support/cases/{case_id}")
async def get_case(
    case_id: UUID,
    session: Session,
    resources: Opened,
    includeTimeline: bool = False,  # noqa: N803, FBT001, FBT002 - a query parameter
) -> models.Case:
    """Return a case, with its timeline if that is requested."""
    case = await _case(session, case_id)
    if includeTimeline:
        await resources.timelines.add_to(case)
    return case


@app.post("/support/cases/{case_id}/timeline/refresh")
async def refresh_timeline(case_id: UUID, session: Session, resources: Opened) -> models.Case:
    """Return a case with a timeline that was just fetched."""
    case = await _case(session, case_id)
    await resources.timelines.add_to(case, refresh=True)
    return case


@app.post("/support/cases/{case_id}/messages")
async def add_message(case_id: UUID, new: models.NewMessage, session: Session) -> models.Message:
    """Add a message to a case."""
    await _touch(session, case_id)
    row = tables.Message(case_id=case_id, **new.model_dump())
    session.add(row)
    await session.commit()
    return models.Message.model_validate(row)


@app.post("/support/cases/{case_id}/attachments", status_code=201)
async def upload(case_id: UUID, file: UploadFile, session: Session, resources: Opened) -> models.Attachment:
    """Store a file of a case."""
    attachment_id, digest, size = uuid4(), hashlib.sha256(), 0
    path = resources.files / str(attachment_id)
    async with aiofiles.open(path, "wb") as output:
        while block := await file.read(BLOCK):
            digest.update(block)
            size += len(block)
            await output.write(block)
    try:
        await _touch(session, case_id)
        row = tables.Attachment(
            id=attachment_id,
            case_id=case_id,
            filename=file.filename or "file",
            content_type=file.content_type or "application/octet-stream",
            size_bytes=size,
            sha256=digest.hexdigest(),
        )
        session.add(row)
        await session.commit()
    except BaseException:
        path.unlink()
        raise
    return models.Attachment.model_validate(row)


async def _case(session: AsyncSession, case_id: UUID) -> models.Case:
    row = await session.get(tables.Case, case_id)
    if row is None:
        raise HTTPException(404, "There is no such case")
    return models.Case.model_validate(row)


async def _touch(session: AsyncSession, case_id: UUID) -> None:
    """Set the time of a case's last change. Raises 404 if there is no such case."""
    statement = update(tables.Case).where(tables.Case.id == case_id).values(updated_at=tables.now())
    if (await session.execute(statement.returning(tables.Case.id))).scalar() is None:
        raise HTTPException(404, "There is no such case")
