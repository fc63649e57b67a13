"""Suggestions for unknown names: of fields, parameters, values and routes.

They are computed only for refused calls, so accepted calls pay nothing.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

from conversation.refusals import field_synonyms

LONGEST = 60  # characters of an unknown name that the response repeats
_SIMILAR = 0.7  # ratio of difflib: promt and prompt have 0.91
_SIMILAR_ROUTE = 0.75
_FEW = 8  # names that a sentence lists at most
_VERSION = "v1"

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def unknown(name: str, names: Collection[str], what: str = "field") -> str:
    """Return a sentence about an unknown name, with a suggestion. `names`: those that the call accepts."""
    sentence = f"Unknown {what} `{name[:LONGEST]}`"
    plain = in_snake_case(name)
    if name != plain and plain in names:
        return f"{sentence}. Did you mean `{plain}`? {what.capitalize()} names are in snake_case."
    if plain in field_synonyms.SUMS_OF_TOKENS and "input_tokens" in names:
        return f"{sentence}. Send `input_tokens` and `output_tokens`, not their sum."
    if plain == "user_id" and "prompt" in names:
        return f"{sentence}. A session has it: POST /v1/sessions takes `user_id`."
    if likely := closest(plain, names):
        return f"{sentence}. Did you mean `{likely}`?"
    if 0 < len(names) <= _FEW:
        return f"{sentence}; this call takes {', '.join(f'`{each}`' for each in sorted(names))}"
    return sentence


def closest(plain: str, names: Collection[str]) -> str | None:
    """Return the name closest to `plain` (snake_case): by a synonym, else by similarity."""
    for name, others in field_synonyms.OF_FIELDS.items():
        if name in names and plain in others.split():
            return name
    return next(iter(difflib.get_close_matches(plain[:LONGEST], names, 1, _SIMILAR)), None)


def allowed_values(value: object, allowed: Sequence[str]) -> str:
    """Return a sentence with the allowed values, and a suggestion if one is similar."""
    sentence = f"Must be one of {', '.join(allowed)}" if len(allowed) > 1 else f"Must be {''.join(allowed)}"
    if not isinstance(value, str):
        return sentence
    likely = difflib.get_close_matches(in_snake_case(value[:LONGEST]), allowed, 1, _SIMILAR)
    return f"{sentence}. Did you mean {likely[0]}?" if likely else sentence


def in_snake_case(name: str) -> str:
    return re.sub(r"[\s-]+", "_", _CAMEL.sub("_", name[:LONGEST])).lower().strip("_")


def route(path: str, method: str, routes: Iterable[tuple[str, Collection[str]]]) -> str | None:
    """Return the route closest to an unknown path, such as "POST /v1/interactions".

    `routes`: templates with parameters in braces, each with its methods.
    """
    parts = path[:200].strip("/").split("/")
    if parts[:1] in (["api"], ["rest"]):
        parts = parts[1:]
    versioned = [_VERSION, *(parts[1:] if re.fullmatch(r"v\d+", parts[0] if parts else "") else parts)]
    best, found = _SIMILAR_ROUTE, None
    for template, methods in routes:
        for sent in (parts, versioned):
            similarity = _similarity(sent, template.strip("/").split("/"))
            score = similarity + (0.01 if method in methods else 0)
            if similarity >= _SIMILAR_ROUTE and score > best:
                best, found = score, f"{method if method in methods else min(methods)} {template}"
    return found


def _similarity(sent: Sequence[str], template: Sequence[str]) -> float:
    """Return the similarity of a path and a template: 1 if it is that route, 0 if the numbers of segments differ."""
    if len(sent) != len(template):
        return 0
    literal = [(one, other) for one, other in zip(sent, template, strict=True) if not other.startswith("{")]
    if any(not one for one in sent) or not literal:
        return 0
    return min(_ratio(one.lower(), other) for one, other in literal)


def _ratio(one: str, other: str) -> float:
    """Return the ratio of difflib; 0 if the lengths alone make it too small, since it takes longer for long texts."""
    if 2 * min(len(one), len(other)) < _SIMILAR_ROUTE * (len(one) + len(other)):
        return 0
    return difflib.SequenceMatcher(None, one, other).ratio()
