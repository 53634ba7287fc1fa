"""The token file, with the caller and the expiry of each token, and the verification of its tokens.

The file may change while the service runs. The tokens themselves are not stored: each is identified by its SHA-256. A
slow, salted hash protects passwords that people choose. 32 random bytes cannot be guessed, so a slow hash would only
make every request more expensive.
"""

import asyncio
import fcntl
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from support_service.core.clock import utc_now
from support_service.core.domain.principals import CASE_SCOPED_ROLES, Principal, Role
from support_service.core.errors import Unavailable, problem
from support_service.platform.access.timings import AccessTimings
from support_service.platform.background import Job, Runner
from support_service.platform.durable_files import NewFile
from support_service.platform.telemetry.logs import outage_logger

log = logging.getLogger(__name__)

TOKEN_PREFIX = "sup_"  # noqa: S105 - no secret; it lets people and secret scanners recognize a token
TOKEN_BYTES = 32
CALLER_NAME_PATTERN = r"^[A-Za-z0-9._@-]{1,64}$"
SUBJECT_ID_PATTERN = r"^[^\x00-\x1f\x7f]{1,36}$"  # of agents, customers and teams, as in cases
OWNER_ONLY_MODE = 0o600  # only the owner may read and write

SubjectId = Annotated[str, StringConstraints(pattern=SUBJECT_ID_PATTERN)]


def hash_token(token: str) -> str:
    """Return the hash that identifies a token in the file, in hex."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Credential:
    sha256: str
    caller: Principal
    expires: datetime | None


class FileTokenVerifier:
    """A verifier of the tokens in a file. While the file is invalid, the tokens that were read last stay valid."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], datetime] = utc_now,
        timings: AccessTimings = AccessTimings(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._now = now
        self._timings = timings
        self._credentials: dict[str, _Credential] = {}
        self._loaded_stamp: tuple[int, ...] = ()
        self._last_error = ""
        self._checked_at = clock()  # when the file was last read, or found to be unchanged
        self._clock = clock

    @property
    def age(self) -> float:
        """Seconds since the file was last read or found to be unchanged."""
        return self._clock() - self._checked_at

    @property
    def fault_code(self) -> str | None:
        return "tokens_unavailable" if self._last_error else None

    async def start(self, runner: Runner) -> None:
        """Read the file, and check it for changes from now on. Raises Unavailable if it cannot be loaded."""
        await asyncio.to_thread(self._load)
        runner.run(Job("Checking the token file", self._timings.token_file_check_interval, self.reload_if_changed))

    async def verify(self, token: str) -> Principal:
        """Return the caller of a token."""
        digest = hash_token(token)
        credential = self._credentials.get(digest)
        # The time of the lookup depends on hashes, which an attacker cannot choose; the comparison takes constant time.
        if credential is None or not hmac.compare_digest(credential.sha256, digest):
            raise problem("token_invalid", "The token is unknown or revoked.")
        if credential.expires is not None and credential.expires <= self._now():
            refusal = problem("token_expired", "The token has expired; request a new one.")
            refusal.caller = credential.caller.name
            raise refusal
        return credential.caller

    async def reload_if_changed(self) -> None:
        await asyncio.to_thread(self._reload_if_changed)

    def _reload_if_changed(self) -> None:
        try:
            if self._read_file_stamp() != self._loaded_stamp:
                self._load()
                log.info("The token file changed; it has %d tokens that are not revoked", len(self._credentials))
            self._last_error = ""
            self._checked_at = self._clock()
        except (OSError, Unavailable) as failure:
            outage_logger("tokens_unavailable").error("%s; the tokens read before stay valid", failure)
            self._last_error = str(failure)

    def _load(self) -> None:
        try:
            stamp = self._read_file_stamp()
        except OSError:
            stamp = ()  # `read` raises with the reason
        entries = [entry for entry in read_token_file(self._path) if entry.revoked is None]
        self._credentials = {
            entry.sha256: _Credential(
                entry.sha256, Principal(entry.name, entry.role, entry.subject, frozenset(entry.teams)), entry.expires
            )
            for entry in entries
        }
        self._loaded_stamp = stamp  # taken before the read, so that a change during the read is read again

    def _read_file_stamp(self) -> tuple[int, ...]:
        found = self._path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class TokenEntry(BaseModel):
    """One token: its hash, its validity, and the caller that it identifies."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=CALLER_NAME_PATTERN)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    role: Role
    subject: SubjectId | None = None
    teams: tuple[SubjectId, ...] = ()
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
    def _check_unique_tokens(self) -> Self:
        for what, values in (
            ("name", {each.name for each in self.tokens}),
            ("sha256", {each.sha256 for each in self.tokens}),
        ):
            if len(values) != len(self.tokens):
                raise ValueError(f"two tokens have the same {what}")
        return self


def new_token() -> str:
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
    raise problem("tokens_unavailable", f"The token file {path} {reason}")


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
            _write_token_file(path, entries)
    except OSError as failure:
        raise problem("tokens_unavailable", f"The token file {path} can't be written: {failure.strerror}") from failure


def _write_token_file(path: Path, entries: Sequence[TokenEntry]) -> None:
    """Replace the file atomically and durably; a crash leaves the old or the new content."""
    text = TokenFile(tokens=tuple(entries)).model_dump_json(indent=2, exclude_none=True)
    new = NewFile(path, replaces=True)
    new.part.unlink(missing_ok=True)  # of a process that was killed: the lock is held
    with new:
        if path.exists():
            previous = path.stat()
            if (previous.st_uid, previous.st_gid) != (os.geteuid(), os.getegid()):
                # Keep the owner, so that a command run by root does not lock the service out.
                os.fchown(new.file.fileno(), previous.st_uid, previous.st_gid)
        new.file.write(f"{text}\n".encode())
        new.finish()
