"""What staff know of customers, as clients send and get it. No I/O."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import RequestModel, SentChanges
from support_service.cases.model.vocabulary import PRINTABLE, Identifier
from support_service.core.search_words import search_words

MAX_NAME_LENGTH = 128
MAX_CONTACTS = 20
MAX_CONTACT_LENGTH = 255
MAX_LABEL_LENGTH = 64
MAX_NOTES_LENGTH = 10_000
MAX_IDENTITIES = 20  # ids of one person
MAX_NAME_WORDS = 16  # words of a name by which it is found
MAX_TERM_LENGTH = 255
DEFAULT_FOUND, MAX_FOUND = 20, 50
MIN_PHONE_DIGITS = 3

ContactKind = Literal["email", "phone", "other"]
CONTENT_EXAMPLE: dict[str, Any] = {
    "name": "Anna Berger",
    "contacts": [
        {"kind": "email", "value": "anna@example.org", "label": None},
        {"kind": "phone", "value": "+43 1 5550 123", "label": "work"},
    ],
    "notes": "Prefers to be called in the morning.",
}
EXAMPLE: dict[str, Any] = {
    "customerId": "CUS-42",
    **CONTENT_EXAMPLE,
    "identities": ["CUS-42", "shop-1042"],
    "auditId": "e2c1f0a4-5b0f-4a0e-9e51-0f4a2a7b9c33",
    "createdAt": "2026-05-12T08:30:00.125000Z",
    "updatedAt": "2026-05-12T09:02:11.480000Z",
}


def _one_line(max_length: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=max_length)


class Contact(ApiModel):
    """How to reach a customer."""

    # One schema for what is sent and what is returned.
    model_config = ConfigDict(
        json_schema_serialization_defaults_required=False, json_schema_extra={"examples": CONTENT_EXAMPLE["contacts"]}
    )

    kind: ContactKind
    value: Annotated[str, _one_line(MAX_CONTACT_LENGTH), PRINTABLE] = Field(description="the address or number")
    label: Annotated[str, _one_line(MAX_LABEL_LENGTH), PRINTABLE] | None = Field(
        None, description="what it is, such as `work`"
    )

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.kind == "email" and (" " in self.value or not all(self.value.rpartition("@"))):
            raise ValueError("`value` is not an e-mail address, such as anna@example.org")
        if self.kind == "phone" and len(_phone_digits(self.value)) < MIN_PHONE_DIGITS:
            raise ValueError(f"`value` is not a phone number: it has less than {MIN_PHONE_DIGITS} digits")
        return self

    @property
    def term(self) -> str:
        return _contact_term(self.kind, self.value)


def is_valid_contact(contact: dict[str, str]) -> bool:
    try:
        Contact.model_validate(contact)
    except ValidationError:
        return False
    return True


Name = Annotated[str, _one_line(MAX_NAME_LENGTH), PRINTABLE]
Contacts = Annotated[
    list[Contact], Field(max_length=MAX_CONTACTS, description="how to reach the customer; the list is set as a whole")
]
Notes = Annotated[str, Field(min_length=1, max_length=MAX_NOTES_LENGTH)]


class CustomerContent(ApiModel):
    """What staff know of a customer."""

    name: Name | None = Field(None, description="what the customer is called")
    contacts: Contacts = Field([])
    notes: Notes | None = Field(None, description="notes of staff, which only staff are shown")

    @property
    def terms(self) -> set[str]:
        return {*name_terms(self.name or ""), *(contact.term for contact in self.contacts)}


class CustomerChange(SentChanges, CustomerContent):
    """What changes of a customer; fields that are not sent stay as they are, and null clears a field."""

    model_config = example_config(CONTENT_EXAMPLE)


class Customer(CustomerContent):
    """A person, under one of the person's ids."""

    model_config = example_config(EXAMPLE)

    customer_id: str = Field(description="the id that has the record of the person")
    identities: list[str] = Field(description="all ids of the person, `customerId` first")
    audit_id: str = Field(description="what the audit log calls the customer")
    created_at: datetime
    updated_at: datetime
    version: SkipJsonSchema[int] = Field(default=1, exclude=True)  # sent to clients as ETag


class FoundCustomers(ApiModel):
    """Customers that were found."""

    model_config = example_config({"items": [EXAMPLE], "more": False})

    items: list[Customer]
    more: bool = Field(description="there are others; ask for more of the name")


class CustomerSearch(ApiModel):
    """Which customers to find: by name or by a contact."""

    q: Annotated[str, Field(max_length=200)] | None = Field(
        None,
        description="words of the name in their order, from any word on, ignoring case and diacritics; the last word "
        "may be incomplete. An e-mail address or a phone number finds the customers with exactly that contact",
    )
    contact: Annotated[str, Field(max_length=MAX_CONTACT_LENGTH)] | None = Field(
        None,
        description="a contact, as it is but for upper case, and for spaces and signs in phone numbers; not with `q`",
    )
    limit: Annotated[int, Field(ge=1, le=MAX_FOUND)] = Field(DEFAULT_FOUND, description="maximum number of customers")

    @model_validator(mode="after")
    def _check_one_of_both(self) -> Self:
        if bool(self.q and self.q.strip()) == bool(self.contact and self.contact.strip()):
            raise ValueError("send either `q` or `contact`")
        return self

    @property
    def contact_terms(self) -> list[str]:
        """The terms of contacts that are asked for; empty if it is a name."""
        sought = (self.contact or self.q or "").strip()
        if self.contact:
            kinds: list[ContactKind] = ["email", "other", "phone"]
            return [_contact_term(kind, sought) for kind in kinds if kind != "phone" or _is_phone(sought)]
        if "@" in sought:
            return [_contact_term("email", sought)]
        return [_contact_term("phone", sought)] if _is_phone(sought) else []

    @property
    def name_prefix(self) -> str:
        """The beginning of the terms of names that are asked for; empty without a word."""
        return " ".join(search_words(self.q))


class CustomerMerge(RequestModel):
    """The customer that a customer is merged into."""

    model_config = example_config({"into": "shop-1042"})

    into: Identifier = Field(description="any id of the person whom this customer is")


def name_terms(name: str) -> Iterator[str]:
    """Yield the words of a name, beginning with each of them: what is before that word follows at the end.

    So a name is found by its beginning, by any later word, and as `Berger Anna`.
    """
    words = search_words(name)[:MAX_NAME_WORDS]
    for start in range(len(words)):
        yield " ".join([*words[start:], *words[:start]])[:MAX_TERM_LENGTH]


def _contact_term(kind: ContactKind, value: str) -> str:
    # A colon is in no word of a name.
    return f"{kind}:{_phone_digits(value) if kind == 'phone' else value.casefold()}"


def _phone_digits(value: str) -> str:
    return ("+" if value.startswith("+") else "") + "".join(filter(str.isdecimal, value))


def _is_phone(text: str) -> bool:
    digits = sum(map(str.isdecimal, text))
    return digits >= MIN_PHONE_DIGITS and all(letter.isdecimal() or letter in "+-/(). " for letter in text)


def persons_of(merged_into: dict[str, str | None]) -> dict[str, str]:
    """Return, for each id, the id whose record is that of the person, by what each id was merged into.

    An id that was merged into one that is not among them has a record of its own.
    """

    def person_of(each: str) -> str:
        parent = merged_into[each]
        return each if parent is None or parent not in merged_into else person_of(parent)

    return {each: person_of(each) for each in merged_into}


def person_columns(merged_into: dict[str, str | None]) -> dict[str, str | None]:
    """Return the column `person` of each id: None for a person with one id."""
    persons = persons_of(merged_into)
    several = _repeated(persons.values())
    return {each: person if person in several else None for each, person in persons.items()}


def _repeated(values: Iterable[str]) -> set[str]:
    seen, repeated = set[str](), set[str]()
    for value in values:
        (repeated if value in seen else seen).add(value)
    return repeated
