"""What a field means for privacy: what analysts are shown of it, and what an erasure of its customer leaves of it.

Each field of a model that analysts are answered with, or that an event has, declares both in its type. Neither has a
default: what does not say it stops the start. Masking, erasure and the inventory of data
(docs/operations/data-inventory.md) derive from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel

Analyst = Literal[
    "shown",
    "masked",  # `[masked]`
    "words",  # a list: each item as it is if it is one word without a long number, otherwise `[masked]`
    "known",  # as it is if this service knows the value, otherwise `other`
    "pseudonym",
    "author",  # of a message: a pseudonym of a customer, and others as they are
    "entries",  # a list of objects, with masked members
    "hidden",  # null or empty
    "never sent",  # in no answer that analysts get
    "parts",  # the fields of the models in it have rules of their own
]
Erasure = Literal[
    "kept",
    "replaced",  # by `[erased]`
    "replaced if unknown",  # by `other`, unless this service knows the value
    "emptied",
    "removed",
    "customer removed",  # the author of a message, if it is a customer
    "not personal",  # it says nothing about a customer, and is left
    "parts",
]


@dataclass(frozen=True, slots=True)
class Personal:
    """The rule of a field, as a part of its type: `Annotated[str, Personal(analyst="masked", erasure="replaced")]`."""

    analyst: Analyst
    erasure: Erasure


FACT = Personal("shown", "kept")  # what happened, and when, without anything that identifies the customer
NOT_PERSONAL = Personal("shown", "not personal")
INTERNAL = Personal("never sent", "not personal")
EVENT_ONLY = Personal("never sent", "kept")  # in events that are published for other services
PARTS = Personal("parts", "parts")


@cache
def rules_of(model: type[BaseModel]) -> Mapping[str, Personal]:
    """Return the rule of each field of a model by its name. Raises TypeError for a field without one."""
    rules = {
        name: rule
        for name, field in model.model_fields.items()
        for rule in field.metadata
        if isinstance(rule, Personal)
    }
    without = [f"{model.__name__}.{name}" for name in model.model_fields if name not in rules]
    if without:
        raise TypeError(f"fields without `Personal`, which core/personal.py describes: {', '.join(without)}")
    return rules


def models_in(*annotations: Any) -> dict[type[BaseModel], None]:
    """Return the models that types name, and the models in their fields."""
    found: dict[type[BaseModel], None] = {}
    waiting = list(annotations)
    while waiting:
        annotation = waiting.pop()
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            waiting += get_args(annotation)
        elif annotation not in found:
            found[annotation] = None
            waiting += [field.annotation for field in annotation.model_fields.values()]
    return found
