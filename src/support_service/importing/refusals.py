"""The file of what an import refused: one JSON object per line, with the place, the reasons and the case itself."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pydantic_core

from support_service.core.errors import SupportError


class RefusalFile:
    """A file with refused cases, readable by its owner only. It is empty at first, and removed if it stays empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file: BinaryIO = os.fdopen(os.open(self.path, flags, 0o600), "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self.count == 0 and self.path.is_file() and not self.path.is_symlink():
            self.path.unlink()

    def add(self, place: int, document: object, failure: SupportError) -> None:
        """Add a refused case, `document`, which is None if its line can't be read."""
        refused: dict[str, Any] = {"line": place, "code": failure.code, "reason": failure.detail}
        if failure.errors:
            refused["errors"] = [{"field": each.field, "message": each.message} for each in failure.errors]
        if document is not None:
            refused["case"] = document
        self._file.write(pydantic_core.to_json(refused, inf_nan_mode="null") + b"\n")
        self.count += 1
