"""One case of an import: the fields of the API's requests, its status, and its files."""

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from support_service.attachments.model import MAX_FILENAME_BYTES
from support_service.cases.model.requests import NewCase, NewMessage, RequestModel
from support_service.cases.model.vocabulary import ExternalId, NewSentAt, Status, Visibility

MAX_FILES = 1000  # per case, as in the API
MAX_PATH_LENGTH = 4096  # characters
FilePath = Annotated[str, Field(min_length=1, max_length=MAX_PATH_LENGTH)]


class ImportedFile(RequestModel):
    """A file of an imported case; `path` is relative to the folder of the imported file."""

    model_config = ConfigDict(extra="forbid")

    path: FilePath
    filename: Annotated[str, Field(min_length=1, max_length=MAX_FILENAME_BYTES)] | None = None
    content_type: Annotated[str, Field(max_length=255)] | None = None
    visibility: Visibility | None = None
    sent_at: NewSentAt | None = None


class ImportedMessage(NewMessage):
    """A message of an imported case; `attachment` and `attachments` are paths of the case's files that it names."""

    model_config = ConfigDict(extra="forbid")

    attachment: FilePath | None = None
    attachments: Annotated[list[FilePath], Field(max_length=MAX_FILES)] = Field([])

    @field_validator("attachment_ids")
    @classmethod
    def _has_no_ids(cls, _: object) -> object:
        raise ValueError("can't be imported: files get their ids here. Name them by their paths in `attachments`")

    @property
    def named_files(self) -> list[str]:
        """The paths of the files that it names, each once."""
        return list(dict.fromkeys([*([self.attachment] if self.attachment else []), *self.attachments]))


def _as_object(file: object) -> object:
    return {"path": file} if isinstance(file, str) else file


class ImportedCase(NewCase):
    """A case with its conversation and files. Unknown fields are refused, so that no misspelled one is lost."""

    model_config = ConfigDict(extra="forbid")

    external_id: ExternalId
    status: Status = "open"
    closed_at: NewSentAt | None = None
    messages: list[ImportedMessage] = Field([])
    attachments: Annotated[list[Annotated[ImportedFile, BeforeValidator(_as_object)]], Field(max_length=MAX_FILES)] = (
        Field([])
    )
