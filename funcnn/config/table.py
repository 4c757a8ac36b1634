"""What every table of a config is: frozen, without unknown keys; and the kinds of its values."""

import os
import re
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from funcnn.config.toml import shown


def _place(path: str) -> str:
    if "\0" in path:
        raise PydanticCustomError("check", "no path: it holds a NUL character")
    return os.path.expanduser(path)


def _function(path: str | None) -> str | None:
    if path is not None and not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", path):
        found = {"found": shown(path)}
        raise PydanticCustomError("check", 'expected "package.module:build", found {found}', found)
    return path


Name: TypeAlias = Annotated[str, Field(min_length=1)]
Place: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_place)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Options: TypeAlias = dict[str, Any]
FunctionPath: TypeAlias = Annotated[str, AfterValidator(_function)]
Fraction: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class Table(BaseModel):
    """One table of the file: frozen, no unknown keys, no conversions (5 is a float, "5" is not)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Chosen(Table):
    """A table that chooses: by the name of one of ours, or a function of the user's own.

    Where neither is given it is `usual`, or an error.
    """

    usual: ClassVar[str | None] = None

    name: Name | None = None
    function: FunctionPath | None = None
    options: Options = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _usual_name(cls, given: Any) -> Any:
        if cls.usual and isinstance(given, dict) and not {"name", "function"} & given.keys():
            return {"name": cls.usual, **given}
        return given

    @field_validator("function")
    @classmethod
    def _at_most_one(cls, function: str | None, info: ValidationInfo) -> str | None:
        if function is not None and info.data.get("name") is not None:
            raise one_of(cls, "both")
        return function


def one_of(table: type[Table], found: str) -> PydanticCustomError:
    """What is wrong where a table is given both a name and a function, or neither."""
    name = table.__name__.removesuffix("Config").lower()
    message = "give exactly one of {name}.name and {name}.function, found {found}"
    return PydanticCustomError("check_table", message, {"name": name, "found": found})
