"""The base of the sections of the settings, and how a section is read from the environment."""

from collections.abc import Mapping
from typing import Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from support_service.settings.values import (
    WrongSetting,
    expected_values,
    mask_secrets,
)

AnySection = TypeVar("AnySection", bound="SettingsSection")


class SettingsSection(BaseModel):
    """Base class of the sections; a section is read from the variables that its field aliases name."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
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
