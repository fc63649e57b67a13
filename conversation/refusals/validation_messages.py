"""Sentences about wrong values, one for each kind of error that pydantic finds.

pydantic's own messages ("Input should be a valid integer") name Python's types and never reach a caller. Errors of our
own validators already have sentences.
"""

import re
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic_core import ErrorDetails, core_schema

from conversation.refusals import near_misses

_MAX_LOOK_UPS = 100  # per request: each takes a tenth of a millisecond, and 16 MB hold more than a million names
_LONGEST_QUOTE = 10  # characters of a text that a sentence repeats: longer ones may be content
_QUOTED = re.compile(r"[\w.:+-]*")
_BUILT_IN = frozenset(get_args(core_schema.ErrorType))
_EXPECTED = re.compile(r"'([^']*)'")


class LookUps:
    """The suggestions for unknown names and values so far; further ones are searched a limited number of times."""

    def __init__(self) -> None:
        self._known: dict[Hashable, str] = {}

    def get(self, key: Hashable, search: Callable[[], str], fallback: Callable[[], str]) -> str:
        """Return the sentence of a key: a known one, that of `search`, or beyond the limit that of `fallback`."""
        if key not in self._known:
            if len(self._known) >= _MAX_LOOK_UPS:
                return fallback()
            self._known[key] = search()
        return self._known[key]


def sentence(
    error: ErrorDetails, model: type[BaseModel] | None = None, what: str = "field", look_ups: LookUps | None = None
) -> str:
    """Return a sentence about an error.

    `model`: of the value; None for a value that is no object. `what`: how the model's names are called, "field" or
    "parameter". `look_ups`: those of the request, shared by all its errors.
    """
    look_ups = look_ups or LookUps()
    kind = error["type"]
    if kind == "extra_forbidden":
        return unknown(model, error["loc"], what, look_ups)
    if kind == "value_error":
        return _capitalised(str(error.get("ctx", {}).get("error", "")) or _OTHER.format(kind=kind_of(error["input"])))
    if kind not in _BUILT_IN and kind not in _SENTENCES:
        return error["msg"]
    if kind in {"literal_error", "enum"}:
        return _one_of(error["input"], error.get("ctx", {}), look_ups)
    write = _SENTENCES.get(kind)
    return write(error["input"], error.get("ctx", {})) if write else f"Must be another value than {_kind(error)}"


def unknown(model: type[BaseModel] | None, path: Sequence[str | int], what: str, look_ups: LookUps) -> str:
    """Return a sentence about the unknown name at the end of a path."""
    name = str(path[-1])
    return look_ups.get(
        (model, *(part for part in path if isinstance(part, str))),
        lambda: near_misses.unknown(name, names_of(model, path[:-1]) if model else (), what),
        lambda: near_misses.unknown(name, (), what),
    )


def names_of(model: type[BaseModel], path: Sequence[str | int] = ()) -> list[str]:
    """Return the names that a model accepts, or the model at a path within it."""
    for part in path:
        if isinstance(part, str) and (inner := model_of(model, part)):
            model = inner
    return [name for field in model.model_fields for name in _aliases(model, field)]


def kind_of(value: object) -> str:
    """Return the kind of a JSON value, such as "a number"."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case Mapping():
            return "an object"
        case _:
            return "a list"


def _kind(error: ErrorDetails) -> str:
    return kind_of(error["input"])


def _quoted(value: object) -> str:
    """Return a short and plain value quoted, else its kind."""
    if isinstance(value, str) and len(value) <= _LONGEST_QUOTE and _QUOTED.fullmatch(value):
        return f'the text "{value}"' if value else "an empty text"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if abs(value) < 1e15 else "such a large number"  # noqa: PLR2004
    return kind_of(value)


def _number(value: Any) -> str:
    return {2**53: "9007199254740992 (2^53)"}.get(value, f"{value:,.0f}" if value == int(value) else f"{value:g}")


def _one_of(value: object, context: Mapping[str, Any], look_ups: LookUps) -> str:
    expected = str(context.get("expected", ""))
    allowed = _EXPECTED.findall(expected) or [expected.lower()]  # True and False have no quotes
    key = (value[: near_misses.LONGEST] if isinstance(value, str) else None, *allowed)
    return look_ups.get(
        key, lambda: near_misses.allowed_values(value, allowed), lambda: near_misses.allowed_values(None, allowed)
    )


def _must_be(what: str, *, quoted: bool = False) -> Callable[[object, Mapping[str, Any]], str]:
    def write(value: object, _: Mapping[str, Any]) -> str:
        return f"Must be {what}, not {_quoted(value) if quoted else kind_of(value)}"

    return write


def _too_long(value: object, context: Mapping[str, Any]) -> str:
    has = f"; it has {len(value):,}" if isinstance(value, str) else ""
    return f"May have {context['max_length']:,} characters at most{has}"


def _too_many(_: object, context: Mapping[str, Any]) -> str:
    has = f"; it has {context['actual_length']:,}" if context.get("actual_length") else ""
    return f"May have {context['max_length']:,} items at most{has}"


_TEXT = _must_be("a text")
_WHOLE = _must_be("a whole number", quoted=True)
_DECIMAL = _must_be("a number", quoted=True)
_FLAG = _must_be("true or false", quoted=True)
_LIST = _must_be("a list")
_OBJECT = _must_be("an object")
_OTHER = "Must be another value than {kind}"

_Sentence = Callable[[object, Mapping[str, Any]], str]
_SENTENCES: dict[str, _Sentence] = {
    **dict.fromkeys(("string_type", "string_sub_type"), _TEXT),
    "name_type": lambda value, _: (
        f"Must be a text or a whole number, not {value if type(value) is float else kind_of(value)}"
    ),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _DECIMAL),
    **dict.fromkeys(("bool_type", "bool_parsing"), _FLAG),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), _LIST),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), _OBJECT),
    "string_pattern_mismatch": lambda _, context: f"Must match the pattern {context['pattern']}",
    "path_not_file": lambda _, __: "Must be the path of a file that exists",
    "missing": lambda _, __: "Must not be missing",
    "string_unicode": lambda _, __: "Must be Unicode text; half of a surrogate pair can't be stored",
    "string_too_short": lambda _, __: "Must not be blank; leave it out instead",  # no text has a longer minimum
    "string_too_long": _too_long,
    "too_short": lambda _, context: (
        "Must not be empty" if context["min_length"] == 1 else f"Must have {context['min_length']:,} items or more"
    ),
    "too_long": _too_many,
    "finite_number": lambda _, __: "Must be a finite number",
    "greater_than_equal": lambda _, context: f"Must be {_number(context['ge'])} or more",
    "greater_than": lambda _, context: f"Must be more than {_number(context['gt'])}",
    "less_than_equal": lambda _, context: f"Must be {_number(context['le'])} or less",
    "less_than": lambda _, context: f"Must be less than {_number(context['lt'])}",
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        lambda _, __: "Must be a day of the calendar, as in 2026-11-21",
    ),
}


def _aliases(model: type[BaseModel], field: str) -> list[str]:
    """Return the names under which a model accepts a field."""
    alias = model.model_fields[field].validation_alias or model.model_fields[field].alias
    match alias:
        case AliasChoices():
            return [str(choice) for choice in alias.choices]
        case str():
            return [alias]
        case _:
            return [field]


def model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the model of a field's objects, if it has one."""
    for field, info in model.model_fields.items():
        if name in _aliases(model, field):
            return _find_model(info.annotation)
    return None


def _find_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Annotated, Union, types.UnionType, list}:
        return next((found for part in get_args(annotation) if (found := _find_model(part))), None)
    return None


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
