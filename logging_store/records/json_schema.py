"""The rules of `values` in JSON Schema, for the OpenAPI contract.

pydantic derives the schema from types; rules that it can't see (not blank) are added here. The patterns are ECMA
regular expressions, as JSON Schema requires.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    RootModel,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

NAME: JsonDict = {
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
}
IDENTIFIER: JsonDict = NAME | {
    "not": {
        "pattern": r"^([nN][uU][lL][lL]|[uU][nN][dD][eE][fF][iI][nN][eE][dD]|[nN][oO][nN][eE]|\.\.?"
        r"|0{8}(-0{4}){3}-0{12})$"
    }
}
_TIME: JsonDict = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^(19|[2-8][0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]+)?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
}

DATE: JsonDict = {"pattern": r"^(19|[2-8][0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}$"}


def not_null(schema: dict[str, Any]) -> None:
    """Remove null from an optional field's schema, where leaving the field out is the only way to omit it."""
    types = [each for each in schema.pop("anyOf") if each != {"type": "null"}]
    type_schema = types[0] if len(types) == 1 else {"anyOf": types}
    schema.pop("default", None)
    schema |= type_schema | schema


class Json(RootModel["str | float | bool | list[Json] | dict[str, Json] | None"]):
    """Any JSON, at most 64 levels deep. Integers past 2^53 are stored as texts: most readers would change them."""


class ContentMessage(BaseModel):
    """One message of a prompt or a response, with any further fields: tool calls, a name, parts."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Json]

    role: str
    content: Json | None = None


Object = dict[str, Json]
Metadata = Annotated[dict[str, Json], Field(max_length=1_000)]
CompositeKey = Annotated[
    dict[
        Annotated[str, WithJsonSchema({"type": "string", "maxLength": 50, "allOf": [NAME]})],
        Annotated[str, Field(max_length=100, json_schema_extra=NAME)]
        | Annotated[int, Field(ge=-(2**53), le=2**53)]
        | bool,
    ],
    Field(min_length=1, max_length=8),
]
FeedbackValue = (
    bool | Annotated[float, Field(ge=-1e12, le=1e12)] | Annotated[str, Field(min_length=1, max_length=10_000)] | None
)
Parts = str | Annotated[list[Json], Field(min_length=1)]
Messages = Annotated[list[ContentMessage], Field(min_length=1, max_length=10_000)]
Content = str | Messages


Time = (
    Annotated[str, WithJsonSchema(_TIME)]
    | Annotated[float, WithJsonSchema({"type": "number", "minimum": 10**8, "exclusiveMaximum": 221_845_392_000_000})]
)


class DocumentedAs:
    """Annotates a type with another type, whose JSON Schema the contract shows."""

    def __init__(self, documented_type: Any) -> None:
        self._documented_type = documented_type

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(TypeAdapter(self._documented_type).core_schema)


class NumberOrText:
    """Annotates a number that may also be a text: reads it, and documents the texts. Must be the last annotation."""

    def __init__(self, pattern: str, read: Callable[[object], object]) -> None:
        self._pattern = pattern
        self._read = read

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number = handler(schema)
        shared = {name: number.pop(name) for name in ("title", "description") if name in number}
        return {"anyOf": [number, {"type": "string", "pattern": self._pattern}]} | shared
