"""The base of the sections of the settings, and how a section is read from the environment."""

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from support_service.platform.settings.values import WrongSetting, expected_values, mask_secrets

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
        """Read this section only, for a command that needs no other; raises WrongSetting for an invalid value."""
        return read_section(cls, environ)


def read_section(section: type[AnySection], environ: Mapping[str, str]) -> AnySection:
    """Read a section from its variables; an empty value counts as unset.

    Raises WrongSetting for the first invalid value.
    """
    names = [str(field.alias) for field in section.model_fields.values()]
    given = {name: environ[name] for name in names if environ.get(name)}
    try:
        return section.model_validate(given)
    except ValidationError as failure:
        first = failure.errors()[0]
        name = str(first["loc"][0])
        raise WrongSetting(f"{name}={mask_secrets(name, given[name])}: expected {expected_values(first)}") from None
