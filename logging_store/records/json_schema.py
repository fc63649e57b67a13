"""What the rules of `values` look like in JSON Schema, for the contract.

pydantic writes the schema from types, but the rules that it can't see (no NUL, nothing blank) are stated here beside
their kind. The patterns are ECMA's, as JSON Schema has them. One rule can't be said: integers past 2^53 are refused,
floats are not, and JSON Schema doesn't tell them apart.
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


def never_null(schema: dict[str, Any]) -> None:
    """Take null out of an optional field's schema: left out is the only way to say nothing."""
    kinds = [each for each in schema.pop("anyOf") if each != {"type": "null"}]
    stated = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    schema.pop("default", None)
    schema |= stated | schema


_Text = Annotated[str, Field(json_schema_extra=NO_NUL)]
# pydantic would take a plain pattern of keys for one that other keys needn't match
_Key = Annotated[str, WithJsonSchema({"type": "string", "allOf": [NO_NUL]})]


class Json(RootModel["_Text | float | bool | list[Json] | dict[_Key, Json] | None"]):
    """Any JSON, at most 64 levels deep, without NUL; integers past 2^53 are refused, since they lose digits."""


class ContentMessage(BaseModel):
    """One message of a prompt or a response, with whatever else it carries: tool calls, a name, parts."""

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


class ShapedAs:
    """Annotates a type with the shape that the contract shows for it."""

    def __init__(self, shape: Any) -> None:
        self._shape = shape

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(TypeAdapter(self._shape).core_schema)
