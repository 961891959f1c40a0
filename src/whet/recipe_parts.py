"""What the sections of a recipe are made of: frozen, no unknown key, one or several names, plugins by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

Auto = Literal["auto"]
Strings = str | tuple[str, ...]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=Strings),
]
"""One or several; a single one may stand without brackets."""


class Section(BaseModel):
    """A part of the recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Choice(BaseModel):
    """A plugin by name, with its settings. `lora` and `{name: lora, rank: 8}` are both fine."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    name: str
    """Name of the plugin, or a file of your own beside the recipe, such as ./my_loss.py."""

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def named(value: Any) -> Any:
    """Return a plugin's name alone as the section that says so."""
    return {"name": value} if isinstance(value, str) else value


Plugin = Annotated[Choice, BeforeValidator(named, json_schema_input_type=str | Choice)]


Plugins = Annotated[
    tuple[Plugin, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str | dict) else value,
        json_schema_input_type=str | Choice | tuple[Plugin, ...],
    ),
]
"""One or several; a single one may stand without brackets."""
