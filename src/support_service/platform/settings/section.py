"""The base of the sections of the settings, and how a section is read from the environment and from files."""

from collections.abc import Collection, Mapping
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from support_service.core.errors import UserError
from support_service.platform.secret_files import read_secret_file
from support_service.platform.settings.value_types import expected_values, mask_secrets

FILE_SUFFIX = "_FILE"  # of a variable that names the file with the value of another one
READ_AGAIN = "SUPPORT_DATABASE_PASSWORD"  # its file is read for each connection, so its section takes the path
AnySection = TypeVar("AnySection", bound="SettingsSection")


class SettingsSection(BaseModel):
    """Base class of the sections; a section is read from the variables that its field aliases name."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True, populate_by_name=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _ignore_case_of_names(cls, value: Any, info: ValidationInfo) -> Any:
        """Return a value that differs from one of a field's enumerated values only in case as that value."""
        hint = cls.model_fields[str(info.field_name)].annotation
        if get_origin(hint) is not Literal:
            return value
        return next((name for name in get_args(hint) if name.lower() == str(value).strip().lower()), value)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read this section only, for a command that needs no other; raises UserError for an invalid value."""
        return read_section(cls, with_values_of_files(environ, variables_of(cls)))


def variables_of(section: type[SettingsSection]) -> list[str]:
    """Return the variables of a section."""
    return [str(field.alias) for field in section.model_fields.values()]


def with_values_of_files(environ: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """Return the variables, with the content of the file that `NAME_FILE` names as the value of each name in `names`.

    Raises UserError for a file that can't be read or is empty, and if the variable itself is set, too.
    """
    given = dict(environ)
    for name in names:
        variable = name + FILE_SUFFIX
        path = environ.get(variable)
        if not path or name.startswith("OTEL_"):  # libraries read those themselves
            continue
        if environ.get(name):
            raise UserError(f"{variable} and {name} are both set: expected one of them")
        value = read_value_file(variable, path)
        if name != READ_AGAIN:
            given[name] = value
    return given


def read_value_file(variable: str, path: str) -> str:
    """Return the content of the file that a variable names. Raises UserError."""
    try:
        return read_secret_file(path)
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise UserError(f"{variable}={path!r}: can't be read: {reason}") from failure


def read_section(section: type[AnySection], environ: Mapping[str, str]) -> AnySection:
    """Read a section from its variables; an empty value counts as unset.

    Raises UserError for the first invalid value.
    """
    names = [*variables_of(section), READ_AGAIN + FILE_SUFFIX]
    given = {name: environ[name] for name in names if environ.get(name)}
    try:
        return section.model_validate(given)
    except ValidationError as failure:
        first = failure.errors()[0]
        if not first["loc"]:  # of several variables together
            raise UserError(expected_values(first)) from None
        name = str(first["loc"][0])
        if path := environ.get(name + FILE_SUFFIX):
            shown = f"{name}{FILE_SUFFIX}={path!r}"  # not what is in the file
        else:
            shown = f"{name}={mask_secrets(name, given[name])}"
        raise UserError(f"{shown}: expected {expected_values(first)}") from None
