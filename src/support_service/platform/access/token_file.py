"""The token file: the caller and the expiry of each token. The tokens themselves are not stored.

Each token is identified by its SHA-256. A slow, salted hash protects passwords that people choose; 32 random bytes
cannot be guessed, so a slow hash would only make every request more expensive.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from support_service.core.domain.principals import CASE_SCOPED_ROLES, Role
from support_service.core.errors import Unavailable

TOKEN_PREFIX = "sup_"  # noqa: S105 - no secret; it lets people and secret scanners recognize a token
TOKEN_BYTES = 32
NAME_PATTERN = r"^[A-Za-z0-9._@-]{1,64}$"
ID_PATTERN = r"^[^\x00-\x1f\x7f]{1,36}$"  # of agents, customers and teams, as in cases
OWNER_ONLY_MODE = 0o600  # only the owner may read and write

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]


class TokenEntry(BaseModel):
    """One token: its hash, its validity, and the caller that it identifies."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=NAME_PATTERN)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    role: Role
    subject: Id | None = None
    teams: tuple[Id, ...] = ()
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if self.role in CASE_SCOPED_ROLES and self.subject is None:
            raise ValueError(f"the role {self.role} needs a subject")
        return self


class TokenFile(BaseModel):
    """The content of the token file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    tokens: tuple[TokenEntry, ...]

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        for what, values in (
            ("name", {each.name for each in self.tokens}),
            ("sha256", {each.sha256 for each in self.tokens}),
        ):
            if len(values) != len(self.tokens):
                raise ValueError(f"two tokens have the same {what}")
        return self


def new_token() -> str:
    """Return a new random token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def read_token_file(path: Path) -> tuple[TokenEntry, ...]:
    """Return all tokens of the file. Raises Unavailable, with the reason in one line, if it cannot be loaded."""
    try:
        return TokenFile.model_validate_json(path.read_bytes()).tokens
    except FileNotFoundError:
        reason = "does not exist; create it with `support-service token create NAME --role ROLE`"
    except OSError as failure:
        reason = f"can't be read: {failure.strerror}"
    except ValidationError as failure:
        first = failure.errors(include_input=False, include_url=False)[0]
        location = ".".join(map(str, first["loc"]))
        reason = f"is invalid{f' at {location}' if location else ''}: {first['msg'].removeprefix('Value error, ')}"
    raise Unavailable("tokens_unavailable", f"The token file {path} {reason}")


@contextmanager
def edit_token_file(path: Path) -> Iterator[list[TokenEntry]]:
    """Yield the tokens as a list to change in place, and write it at the end of the block. Other writers wait.

    Raises Unavailable if the file cannot be read or written. The file stays unchanged then, and if the block raises.
    """
    path = Path(os.path.realpath(path))  # keeps a symlink to the file; Path.resolve may raise for a symlink to itself
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is on a separate file, because the token file is replaced.
        with os.fdopen(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, OWNER_ONLY_MODE)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = list(read_token_file(path)) if path.exists() else []
            yield entries
            _write(path, entries)
    except OSError as failure:
        raise Unavailable(
            "tokens_unavailable", f"The token file {path} can't be written: {failure.strerror}"
        ) from failure


def _write(path: Path, entries: Sequence[TokenEntry]) -> None:
    """Replace the file atomically and durably; a crash leaves the old or the new content."""
    text = TokenFile(tokens=tuple(entries)).model_dump_json(indent=2, exclude_none=True)
    new = Path(f"{path}.new")  # a fixed name: the lock is held, and a file left by a crash is overwritten
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, OWNER_ONLY_MODE), "w") as file:
        os.fchmod(file.fileno(), OWNER_ONLY_MODE)
        if path.exists():
            previous = path.stat()
            if (previous.st_uid, previous.st_gid) != (os.geteuid(), os.getegid()):
                # Keep the owner, so that a command run by root does not lock the service out.
                os.fchown(file.fileno(), previous.st_uid, previous.st_gid)
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
