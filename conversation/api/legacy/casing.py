"""Fields that callers send in snake_case or in camelCase, some also under a second name.

Problems name a field as the caller did. The response is in camelCase if the request used a camelCase name.
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


def aliased_field(*names: str, description: str | None = None) -> Any:
    """Return an optional field that is accepted under each of these names, also in camelCase."""
    aliases = dict.fromkeys([*names, *map(to_camel, names)])
    return Field(default=None, validation_alias=AliasChoices(*aliases), description=description)


def to_case(row: Mapping[str, Any], *, camel: bool) -> dict[str, Any]:
    """Return an object with its own keys in the caller's case; nested objects stay as they are."""
    return {to_camel(name): value for name, value in row.items()} if camel else dict(row)


class CasedModel(Record):
    """A record that remembers the names under which the caller sent its fields."""

    _sent_names: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def camel(self) -> bool:
        """Whether the caller sent a camelCase name in this record."""
        return any(alias != alias.lower() for alias in self._sent_names.values())

    def name_sent(self, field: str) -> str:
        return self._sent_names.get(field, field)

    def caller_name(self, field: str, *, camel: bool) -> str:
        """Return the name under which the caller sent a field; `camel` decides for a field that was not sent."""
        return self._sent_names.get(field) or (to_camel(field) if camel else field)

    @model_validator(mode="wrap")
    @classmethod
    def _remember_names(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        names_sent, once = {}, dict(value)
        for field in cls.model_fields:
            present = [alias for alias in aliases_of(cls, field) if alias in value]
            with_value = [alias for alias in present if value[alias] is not None]
            if any(value[alias] != value[with_value[0]] for alias in with_value):
                raise _contradiction(cls, with_value, value)
            if present:
                names_sent[field] = (with_value or present)[0]
                for alias in present:
                    if alias != names_sent[field]:
                        del once[alias]
        record = handler(once)
        record._sent_names.update(names_sent)  # noqa: SLF001 - its own
        return record


def aliases_of(model: type[BaseModel], field: str) -> list[str]:
    """Return every name under which a model accepts a field."""
    alias = model.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [field]


def _contradiction(model: type[BaseModel], names: list[str], value: dict[str, Any]) -> ValidationError:
    error = PydanticCustomError("two_names", f"{' and '.join(names)} are the same field and differ; send one")
    details = [InitErrorDetails(type=error, loc=(name,), input=value[name]) for name in names]
    return ValidationError.from_exception_data(model.__name__, details)


def document_both_cases(schema: _Schema, model: type[BaseModel]) -> None:
    """Replace a model's JSON Schema by variants: snake_case or camelCase, first or second names."""
    described = {name: schema.pop(name) for name in list(schema) if name not in {"title", "description", "$defs"}}
    snake = [
        {field: alias for field in model.model_fields if (alias := _nth_name(aliases_of(model, field), nth))}
        for nth in range(2)
    ]
    variants = []
    for names in snake:
        for renamed in (names, {field: to_camel(name) for field, name in names.items()}):
            variant = _renamed(described, renamed)
            if variant not in variants:
                variants.append(variant)
    schema["anyOf"] = variants


def _nth_name(aliases: list[str], nth: int) -> str:
    """Return a field's nth name in snake_case, or its last one."""
    snake = [alias for alias in aliases if alias == alias.lower()]
    return snake[min(nth, len(snake) - 1)]


def _renamed(schema: _Schema, names: Mapping[str, str]) -> _Schema:
    """Return the schema of an object with its properties renamed wherever they occur."""
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {names.get(name, name): value for name, value in schema["properties"].items()}
    if "required" in schema:
        changed["required"] = [names.get(name, name) for name in schema["required"]]
    if "anyOf" in schema:
        changed["anyOf"] = [_renamed(each, names) for each in schema["anyOf"]]
    return changed
