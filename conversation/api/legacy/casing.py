"""Fields that callers spell in snake_case or in camelCase, and a few by another name as well.

In whatever spelling a field came, problems name it in that one. If a body uses a camelCase name, so does its answer.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from logging_store.records.models import Record

_Schema = dict[str, Any]


def spelled(*names: str, description: str | None = None) -> Any:
    """Return an optional field of these names, each of which may be in camelCase."""
    spellings = dict.fromkeys([*names, *map(to_camel, names)])
    return Field(default=None, validation_alias=AliasChoices(*spellings), description=description)


def spell(row: Mapping[str, Any], *, camel: bool) -> dict[str, Any]:
    """Return an object with its own keys as the caller spells them; what they hold stays as it is."""
    return {to_camel(name): value for name, value in row.items()} if camel else dict(row)


class Spelled(Record):
    """A record that knows how the caller spelled its fields."""

    _spellings: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def camel(self) -> bool:
        """Whether the caller writes camelCase, as far as this record shows."""
        return any(spelling != spelling.lower() for spelling in self._spellings.values())

    def called(self, field: str, *, camel: bool) -> str:
        """Return what the caller calls a field; `camel` decides for one that was not stated."""
        return self._spellings.get(field) or (to_camel(field) if camel else field)

    @model_validator(mode="wrap")
    @classmethod
    def _note_spellings(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        spellings, once = {}, dict(value)
        for field in cls.model_fields:
            present = [spelling for spelling in spellings_of(cls, field) if spelling in value]
            stated = [spelling for spelling in present if value[spelling] is not None]
            if any(value[spelling] != value[stated[0]] for spelling in stated):
                raise _contradiction(cls, stated, value)
            if present:
                spellings[field] = (stated or present)[0]
                for spelling in present:
                    if spelling != spellings[field]:
                        del once[spelling]
        record = handler(once)
        record._spellings.update(spellings)  # noqa: SLF001 - its own
        return record


def spellings_of(model: type[BaseModel], field: str) -> list[str]:
    """Return every name that a model takes a field by."""
    alias = model.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [field]


def _contradiction(model: type[BaseModel], names: list[str], value: dict[str, Any]) -> ValidationError:
    error = PydanticCustomError("two_names", f"{' and '.join(names)} are one field, and differ here; state one")
    details = [InitErrorDetails(type=error, loc=(name,), input=value[name]) for name in names]
    return ValidationError.from_exception_data(model.__name__, details)


def in_both_cases(schema: _Schema, model: type[BaseModel]) -> None:
    """Say in a model's JSON Schema that its names are in snake_case or in camelCase, and which others it has."""
    described = {name: schema.pop(name) for name in list(schema) if name not in {"title", "description", "$defs"}}
    snake = [
        {field: spelling for field in model.model_fields if (spelling := _other(spellings_of(model, field), nth))}
        for nth in range(2)
    ]
    variants = []
    for names in snake:
        for renamed in (names, {field: to_camel(name) for field, name in names.items()}):
            variant = _renamed(described, renamed)
            if variant not in variants:
                variants.append(variant)
    schema["anyOf"] = variants


def _other(spellings: list[str], nth: int) -> str:
    """Return the first, or the second if there is one, of a field's names in snake_case."""
    snake = [spelling for spelling in spellings if spelling == spelling.lower()]
    return snake[min(nth, len(snake) - 1)]


def _renamed(schema: _Schema, names: Mapping[str, str]) -> _Schema:
    """Return the schema of an object with its properties renamed, wherever it speaks of them."""
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {names.get(name, name): value for name, value in schema["properties"].items()}
    if "required" in schema:
        changed["required"] = [names.get(name, name) for name in schema["required"]]
    if "anyOf" in schema:
        changed["anyOf"] = [_renamed(each, names) for each in schema["anyOf"]]
    return changed
