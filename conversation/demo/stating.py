"""How records are made of what is known: as callers send them, and checked as theirs are."""

from datetime import date
from typing import Any, TypeVar

from logging_store.records.models import Record

_Record = TypeVar("_Record", bound=Record)


def state(model: type[_Record], /, **fields: Any) -> _Record:
    """Return a record. Times and dates are spelled out; what is None isn't stated."""
    return model.model_validate({name: _spelled(value) for name, value in fields.items() if value is not None})


def _spelled(value: Any) -> Any:
    match value:
        case date():  # a time is one, too
            return value.isoformat()
        case dict():
            return {name: _spelled(part) for name, part in value.items()}
    return value
