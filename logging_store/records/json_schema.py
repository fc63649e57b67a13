"""The rules of `values` in JSON Schema, for the OpenAPI contract.

pydantic derives the schema from types; rules that it can't see (no NUL, not blank) are added here. The patterns are
ECMA regular expressions, as JSON Schema requires. One rule can't be expressed: integers past 2^53 are rejected and
floats aren't, but JSON Schema doesn't distinguish them.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, RootModel, TypeAdapter, WithJsonSchema
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue

NO_NUL: JsonDict = {"pattern": r"^[^\u0000]*$"}
NAME: JsonDict = {"pattern": r"^[^\u0000-\u001f\u007f]*[^\s\u0000-\u001f\u007f\u0085][^\u0000-\u001f\u007f]*$"}
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


_Text = Annotated[str, Field(json_schema_extra=NO_NUL)]
# `allOf`, since pydantic turns a plain pattern of keys into patternProperties
_Key = Annotated[str, WithJsonSchema({"type": "string", "allOf": [NO_NUL]})]


class Json(RootModel["_Text | float | bool | list[Json] | dict[_Key, Json] | None"]):
    """Any JSON, at most 64 levels deep, without NUL; integers past 2^53 are rejected, since they lose digits."""


class ContentMessage(BaseModel):
    """One message of a prompt or a response, with any further fields: tool calls, a name, parts."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"propertyNames": {"allOf": [NO_NUL]}})
    __pydantic_extra__: dict[str, Json]

    role: _Text
    content: Json | None = None


Object = dict[_Key, Json]
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
    bool | Annotated[float, Field(ge=-1e12, le=1e12)] | Annotated[_Text, Field(min_length=1, max_length=10_000)]
)
Parts = _Text | Annotated[list[Json], Field(min_length=1)]
Content = _Text | Annotated[list[ContentMessage], Field(min_length=1)]


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
