"""The tables."""

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: DateTime(timezone=True),
        uuid.UUID: Uuid(),
        list[dict[str, Any]]: JSON(),
        list[str]: JSON(),
    }


class Case(Base):
    """A support case."""

    __tablename__ = "cases"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    subject: Mapped[str]
    description: Mapped[str]
    customer_id: Mapped[str] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(default="open", index=True)
    priority: Mapped[str]
    channel: Mapped[str]
    context: Mapped[list[dict[str, Any]]]
    tags: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    messages: Mapped[list["Message"]] = relationship(lazy="selectin", order_by="Message.created_at")
    attachments: Mapped[list["Attachment"]] = relationship(lazy="selectin", order_by="Attachment.created_at")


class Message(Base):
    """A message of a case."""

    __tablename__ = "messages"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    case_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("cases.id"), index=True)
    author_type: Mapped[str]
    message: Mapped[str]
    visibility: Mapped[str] = mapped_column(default="public")
    created_at: Mapped[datetime] = mapped_column(default=now)


class Attachment(Base):
    """An uploaded file of a case."""

    __tablename__ = "attachments"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    case_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("cases.id"), index=True)
    filename: Mapped[str]
    content_type: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
