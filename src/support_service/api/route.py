"""Row type of the route table: the request that an operation accepts, and its responses."""

import inspect
import re
from dataclasses import dataclass

from aiohttp.typedefs import Handler
from pydantic import BaseModel

from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class RouteResponse:
    """An additional success or redirect response; without a model it has no JSON body."""

    status: int
    meaning: str
    model: type[BaseModel] | None = None
    media: tuple[str, ...] = (JSON,)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """An operation: its request, its responses, and the problem codes specific to it."""

    method: str
    path: str
    handler: Handler
    answer: type[BaseModel] | None = None
    many: bool = False  # the response is a list of the model
    status: int = 200
    media: tuple[str, ...] = (JSON,)  # of the response; other types than JSON have no model
    headers: tuple[str, ...] = ()  # of the response
    others: tuple[RouteResponse, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    body_media: tuple[str, ...] = (JSON,)
    query: type[BaseModel] | None = None
    takes: tuple[str, ...] = ()  # request headers
    refusals: tuple[str, ...] = ()  # problem codes, see core/problem_codes.py
    gives: tuple[tuple[str, str], ...] = ()  # (path parameter of other routes, JSON pointer into the response)

    @property
    def name(self) -> str:
        """The operation's name, which is its handler's."""
        return self.handler.__name__

    @property
    def tag(self) -> str:
        """The OpenAPI tag: the name of the handler's module. The first line of the module's docstring describes it."""
        return self.handler.__module__.rpartition(".")[2]

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return inspect.cleandoc(self.handler.__doc__ or "").partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        """The rest of the handler's docstring: paragraphs, each on one line."""
        _, _, rest = inspect.cleandoc(self.handler.__doc__ or "").partition("\n")
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in rest.strip().split("\n\n"))

    @property
    def sends(self) -> tuple[str, ...]:
        """The headers of the main response, including Idempotency-Replayed if the operation accepts a key."""
        return (*self.headers, *(["Idempotency-Replayed"] if "Idempotency-Key" in self.takes else []))

    @property
    def refused_with(self) -> set[int]:
        """The statuses of the problems specific to the operation."""
        return {status for code in self.refusals if (status := PROBLEM_CODES_BY_NAME[code].status)}

    @property
    def parts(self) -> list[str]:
        """The names of the path parameters."""
        return re.findall(r"{(\w+)}", self.path)
