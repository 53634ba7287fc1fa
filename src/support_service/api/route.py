"""One row of the table of routes: what a call takes and what it gives."""

import inspect
import re
from dataclasses import dataclass

from aiohttp.typedefs import Handler
from pydantic import BaseModel

from support_service.core.problem_codes import BY_NAME

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer beside the usual one; without a model it has no body."""

    status: int
    meaning: str
    model: type[BaseModel] | None = None
    media: tuple[str, ...] = (JSON,)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One call: what is sent, what is answered, and the codes of the problems that it alone may give."""

    method: str
    path: str
    handler: Handler
    answer: type[BaseModel] | None = None
    many: bool = False  # the answer is a list of the model
    status: int = 200
    media: tuple[str, ...] = (JSON,)  # of the answer; one that is not JSON has no model
    headers: tuple[str, ...] = ()  # of the answer
    others: tuple[Answer, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    body_media: tuple[str, ...] = (JSON,)
    query: type[BaseModel] | None = None
    takes: tuple[str, ...] = ()  # headers of the request
    refusals: tuple[str, ...] = ()  # by code; see codes.py
    gives: tuple[tuple[str, str], ...] = ()  # (a part of other routes' paths, where it stands in the answer)

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.handler.__name__

    @property
    def tag(self) -> str:
        """The room of its handler, whose first line says what belongs there."""
        return self.handler.__module__.rpartition(".")[2]

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return inspect.cleandoc(self.handler.__doc__ or "").partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        """What follows it: paragraphs, each on one line."""
        _, _, rest = inspect.cleandoc(self.handler.__doc__ or "").partition("\n")
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in rest.strip().split("\n\n"))

    @property
    def sends(self) -> tuple[str, ...]:
        """The headers of the usual answer, that of a repeated request among them."""
        return (*self.headers, *(["Idempotency-Replayed"] if "Idempotency-Key" in self.takes else []))

    @property
    def refused_with(self) -> set[int]:
        """The statuses of the problems that it alone may give."""
        return {status for code in self.refusals if (status := BY_NAME[code].status)}

    @property
    def parts(self) -> list[str]:
        """The variable parts of its path."""
        return re.findall(r"{(\w+)}", self.path)
