"""Write the client's methods and their parameters from the routes, or with --check say whether they are up to date."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import ModuleType, NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from aiohttp import web
from generated_page import write_or_check
from pydantic import AwareDatetime, BaseModel, RootModel
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from support_service.api.models import cases, oncall_actions
from support_service.api.routes import ROUTES
from support_service.api.routing.route import Route
from support_service.cases.model import requests, vocabulary
from support_service.core.domain import case_vocabulary
from support_service.desk import agent_models, bulk_models, customer_models, macro_models, policy_models, view_models
from support_service.platform.audit import chain
from support_service.reports import measures

CLIENT = Path(__file__).parents[1] / "src/support_service/client"
OPERATIONS = "support_service.client.operations"
METHODS, PARAMETERS = CLIENT / "api_operations.py", CLIENT / "parameters.py"
# Bodies and queries whose fields have a name in the client. Fields of other ones are parameters of their methods.
FIELDS_BY_MODEL: dict[Any, str] = {
    requests.NewMessage: "NewMessageFields",
    requests.NewCase: "NewCaseFields",
    requests.CaseChange: "CaseChangeFields",
    requests.Closing: "ClosingFields",
    requests.CaseFilters: "CaseFilterFields",
    cases.CaseDetailQuery: "CaseReadOptions",
    view_models.ViewChange: "ViewChangeFields",
    bulk_models.BulkFields: "BulkChangeFields",
    agent_models.AgentChange: "AgentChangeFields",
    customer_models.CustomerChange: "CustomerChangeFields",
    macro_models.MacroContent: "MacroFields",
    policy_models.SlaPolicyContent: "PolicyFields",
}
QUERIES = {requests.CaseFilters, cases.CaseDetailQuery}
NAMES = {"remove": "remove_attachment"}  # of methods, where the name of the operation says too little
BY_HAND = {"add_link", "readyz"}  # besides operations that stream, or that answer without a model
TYPES = {"delivery_id": int, "duration": timedelta}  # of parameters that the service takes as texts
PAGE = {"limit", "cursor"}  # of a list, whose pages are read when they are needed

VISIBILITY = Literal["public", "internal"]
VOCABULARIES = (case_vocabulary, vocabulary, chain, oncall_actions, measures)
CLASS = '''\
class ApiOperations(Operations):
    """The operations of the API.

    `version` makes a change only if the object still has this version, else VersionConflict. Lists are read page by
    page; `page_size` is the size of a page. The version of what a list has is not known: it is 0.
    """
'''
DOCUMENT = '"""{}\n\n`make generate` writes this module.\n"""\n'


def _vocabulary(modules: tuple[ModuleType, ...]) -> dict[Any, tuple[str, str]]:
    """Return the module and the name of each closed vocabulary."""
    return {
        value: (module.__name__, name)
        for module in reversed(modules)
        for name, value in vars(module).items()
        if get_origin(value) is Literal
    }


class Module:
    """A module that is written: its parts, and what they import."""

    def __init__(self, document: str, here: str) -> None:
        self._document = document
        self._here = here  # the name of the module, which imports nothing of itself
        self._vocabulary = _vocabulary(VOCABULARIES) | {VISIBILITY: ("support_service.client.parameters", "Visibility")}
        self._imports: defaultdict[str, set[str]] = defaultdict(set)
        self.parts: list[str] = []

    def imported(self, module: str, name: str) -> str:
        """Return a name, which is imported."""
        if module != self._here:
            self._imports[module].add(name)
        return name

    def name_of(self, model: Any) -> str:
        """Return the name of a model, which is imported."""
        return self.imported(model.__module__, model.__name__)

    def fields(self, model: Any) -> str | None:
        """Return the name of the fields of a model, or of the model that it extends, if they have one."""
        found = next((FIELDS_BY_MODEL[each] for each in model.__mro__ if each in FIELDS_BY_MODEL), None)
        return found and self.imported("support_service.client.parameters", found)

    def type_of(self, annotation: Any, *, query: bool = False) -> str:
        """Return the type of a parameter as programs pass it. In a query, one value stands for a list of one."""
        kind, arguments = get_origin(annotation), get_args(annotation)
        if kind is None:
            return self._plain_type(annotation)
        if kind is Annotated:
            return self.type_of(arguments[0], query=query)
        if kind is Literal:
            known = self._vocabulary.get(annotation)
            values = ", ".join(f'"{each}"' for each in arguments)
            return self.imported(*known) if known else f"{self.imported('typing', 'Literal')}[{values}]"
        if kind is dict:
            return f"{self.imported('collections.abc', 'Mapping')}[str, {self.imported('typing', 'Any')}]"
        if kind in (list, tuple):
            item = self.type_of(arguments[0])
            listed = f"{self.imported('collections.abc', 'Sequence')}[{item}]"
            return f"{item} | {listed} | None" if query else listed
        return " | ".join(self.type_of(each, query=query) for each in arguments)  # a union

    def _plain_type(self, annotation: Any) -> str:
        if issubclass(annotation, BaseModel):
            return self.fields(annotation) or self.name_of(annotation)
        if annotation is timedelta:
            return f"{self.name_of(annotation)} | str"
        if annotation in (datetime, AwareDatetime):
            return self.name_of(datetime)
        if annotation is date:
            return self.name_of(date)
        return "None" if annotation is NoneType else str(annotation.__name__)

    def text(self) -> str:
        """Return the text of the module, formatted."""
        lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in self._imports.items()]
        text = "\n".join((DOCUMENT.format(self._document), *lines, "", *self.parts))
        for command in (["check", "--fix-only", "--select", "I"], ["format"]):
            ruff = [
                str(Path(sys.executable).with_name("ruff")),
                *command,
                "--quiet",
                "--stdin-filename",
                str(METHODS),
                "-",
            ]
            text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
        return text


def parameters() -> str:
    """Return the module with the fields that methods take as keywords."""
    module = Module("Fields that methods take as keywords, in snake_case.", "support_service.client.parameters")
    module.parts.append(f"Visibility = {module.imported('typing', 'Literal')}{[*get_args(VISIBILITY)]}")
    nested = ", ".join(f'"{name}"' for name in sorted({*_nested(module)}))
    module.parts.append(f"NESTED = frozenset(({nested}))  # fields that have fields")
    for model, name in FIELDS_BY_MODEL.items():
        kind = module.imported("typing", "TypedDict")
        document = model.__doc__.partition("\n")[0]
        module.parts += ["", "", f"class {name}({kind}, total=False):", f'    """{document}"""', ""]
        for field, info in model.model_fields.items():
            taken = module.type_of(info.annotation, query=model in QUERIES)
            required = f"{module.imported('typing', 'Required')}[{taken}]" if info.is_required() else taken
            module.parts.append(f"    {field}: {required}")
    return module.text()


def _nested(module: Module) -> Iterator[str]:
    """Yield the names of the fields that have fields."""
    for model in {route.body for route in ROUTES if route.body}:
        for name, info in model.model_fields.items():
            if any(isinstance(each, type) and module.fields(each) for each in _parts(info.annotation)):
                yield name


def methods() -> str:
    """Return the module with one method for each operation that needs nothing else."""
    module = Module("One method for each operation of the API.", "support_service.client.api_operations")
    module.imported(OPERATIONS, "Operations")
    module.parts.append(CLASS)
    for route in ROUTES:
        if not _is_by_hand(route):
            module.parts += ["", *Method(module, route).lines()]
    return module.text()


def _is_by_hand(route: Route) -> bool:
    """Return whether the client has a method of its own: for a file, a stream, or an answer without a model."""
    model = route.response_model
    has_model = route.status == HTTPStatus.NO_CONTENT if model is None else not issubclass(model, RootModel)
    return route.operation in BY_HAND or not has_model or web.Request in route.parameters.values()


class Method:
    """The method of an operation."""

    def __init__(self, module: Module, route: Route) -> None:
        self._module = module
        self._route = route
        self._sent: Any = route.body or route.query
        self._fields = module.fields(self._sent) if self._sent else None  # the type of the fields that come as keywords
        self._answer = None if route.response_model is None else module.name_of(route.response_model)
        answered = route.response_model.model_fields if route.response_model else {}
        items = answered.get("items") if "id" not in answered else None  # what has an id is more than its items
        self._item = module.name_of(get_args(items.annotation)[0]) if items else None
        self._is_paged = self._item is not None and route.has_pages

    def lines(self) -> Iterator[str]:
        """Yield the lines of the method."""
        prefix, answer = "async ", self._answer
        if self._is_paged:
            prefix, answer = "", f"{self._module.imported('collections.abc', 'AsyncGenerator')}[{self._item}, None]"
        elif self._item:
            answer = f"{self._module.imported('collections.abc', 'Sequence')}[{self._item}]"
        elif self._route.is_list:
            answer = f"list[{answer}]"
        name = NAMES.get(self._route.operation, self._route.operation)
        yield f"    {prefix}def {name}({', '.join(['self', *self._parameters()])}) -> {answer}:"
        yield f'        """{self._route.summary}."""'
        if self._route.method != "GET":
            yield f"        {self._write()}"
        elif self._is_paged:
            yield f"        return {self._call('_items', self._answer, 'page_size', *self._query())}"
        else:
            read = self._call("_read_list" if self._route.is_list else "_read", self._answer, *self._query())
            yield f"        return (await {read}).items" if self._item else f"        return await {read}"

    def _parameters(self) -> list[str]:
        """Return what the method takes: ids and required fields by place, everything else by name."""
        places = [f"{name}: {TYPES.get(name, str).__name__}" for name in self._route.path_parameters]
        keywords = []
        for name, info in self._own().items():
            kind = self._module.type_of(TYPES.get(name, info.annotation), query=self._route.body is None)
            if info.is_required():
                places.append(f"{name}: {kind}")
            elif isinstance(info.default, str):
                keywords.append(f"{name}: {kind} = {info.default!r}")
            else:
                keywords.append(f"{name}: {kind.removesuffix(' | None')} | None = None")
        keywords += ["page_size: int | None = None"] if self._is_paged else []
        keywords += [f"version: {self._module.imported(OPERATIONS, 'Version')} = None"] if self._takes_version else []
        key = self._module.imported(OPERATIONS, "Key") if self._route.takes_idempotency_key else None
        keywords += [f"idempotency_key: {key} = None"] if key else []
        places += ["*"] if keywords else []
        unpack = [f"**fields: {self._module.imported('typing', 'Unpack')}[{self._fields}]"] if self._fields else []
        return places + keywords + unpack

    def _own(self) -> dict[str, FieldInfo]:
        """Return the fields of the body or the query that are parameters of their own."""
        if self._sent is None:
            return {}
        named: dict[str, FieldInfo] = next(
            (each.model_fields for each in self._sent.__mro__ if each in FIELDS_BY_MODEL), {}
        )
        left_out = {*named, *(PAGE if self._is_paged else ())}
        return {name: info for name, info in self._sent.model_fields.items() if name not in left_out}

    def _query(self) -> list[str]:
        renamed = {name: info.alias for name, info in self._own().items() if info.alias != to_camel(name)}
        aliases = ", ".join(f'"{alias}": {name}' for name, alias in renamed.items())
        return [
            *(f"{name}={name}" for name in self._own() if name not in renamed),
            *(["**fields"] if self._fields else []),
            *([f"**{{{aliases}}}"] if renamed else []),
        ]

    def _write(self) -> str:
        body = [self._body()] if self._sent else ["None"] if self._takes_version else []
        version = ["version"] if self._takes_version else []
        key = ["key=idempotency_key"] if self._route.takes_idempotency_key else []
        options = body + version + key
        method = repr(self._route.method)
        if self._answer is None:
            return f"await {self._call('_send', method, *options)}"
        return f"return await {self._call('_write', f'{self._answer}, {method}', *options)}"

    def _body(self) -> str:
        own = ", ".join(f'"{name}": {name}' for name in self._own())
        return "fields" if not own else f"{{{own}, **fields}}" if self._fields else f"{{{own}}}"

    def _call(self, function: str, first: str | None, *others: str) -> str:
        """Return a call of a function of Operations with the path."""
        segments = [part for part in re.split("[/{}]", self._route.path) if part]
        path = ", ".join(self._id(part) if part in self._route.path_parameters else f'"{part}"' for part in segments)
        segment_tuple = f"({path})" if len(segments) > 1 else f"({path},)"
        return f"self.{function}({', '.join([str(first), segment_tuple, *others])})"

    @staticmethod
    def _id(name: str) -> str:
        return f"str({name})" if TYPES.get(name, str) is not str else name

    @property
    def _takes_version(self) -> bool:
        return "If-Match" in self._route.request_headers


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield a type, and the types that it consists of."""
    yield annotation
    for each in get_args(annotation):
        yield from _parts(each)


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, {METHODS: methods(), PARAMETERS: parameters()}))
