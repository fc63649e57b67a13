"""What a caller may have meant by a name that isn't one: of a field, a parameter, a value or a route.

Only looked for once a call is refused, so it costs accepted calls nothing.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

from conversation import field_synonyms

_LONGEST = 60  # characters of a name that is repeated to its sender
_ALIKE = 0.7  # of `difflib`: promt and prompt are 0.91 alike
_ALIKE_ROUTES = 0.75
_FEW = 8  # names that a sentence may list
_VERSION = "v1"

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def unknown(name: str, names: Collection[str], what: str = "field") -> str:
    """Say that a name is unknown, and which one may be meant. `names`: those that the call takes."""
    said = f"Unknown {what} `{name[:_LONGEST]}`"
    plain = in_snake_case(name)
    if name != plain and plain in names:
        return f"{said}. Did you mean `{plain}`? {what.capitalize()} names are in snake_case."
    if plain in field_synonyms.SUMS_OF_TOKENS and "input_tokens" in names:
        return f"{said}. Send `input_tokens` and `output_tokens`, not their sum."
    if plain == "user_id" and "prompt" in names:
        return f"{said}. A session has it: POST /v1/sessions takes `user_id`."
    if meant := closest(plain, names):
        return f"{said}. Did you mean `{meant}`?"
    if 0 < len(names) <= _FEW:
        return f"{said}; this call takes {', '.join(f'`{each}`' for each in sorted(names))}"
    return said


def closest(plain: str, names: Collection[str]) -> str | None:
    """Return the name that is nearest to one in snake_case: a synonym, or one that is written alike."""
    for name, others in field_synonyms.OF_FIELDS.items():
        if name in names and plain in others.split():
            return name
    return next(iter(difflib.get_close_matches(plain[:_LONGEST], names, 1, _ALIKE)), None)


def one_of(value: object, allowed: Sequence[str]) -> str:
    """Say which values are allowed, and which of them may be meant."""
    said = f"Must be one of {', '.join(allowed)}" if len(allowed) > 1 else f"Must be {''.join(allowed)}"
    if not isinstance(value, str):
        return said
    meant = difflib.get_close_matches(in_snake_case(value[:_LONGEST]), allowed, 1, _ALIKE)
    return f"{said}. Did you mean {meant[0]}?" if meant else said


def in_snake_case(name: str) -> str:
    return re.sub(r"[\s-]+", "_", _CAMEL.sub("_", name[:_LONGEST])).lower().strip("_")


def route(path: str, method: str, routes: Iterable[tuple[str, Collection[str]]]) -> str | None:
    """Return the route that a path without one is nearest to, as "POST /v1/interactions".

    `routes`: templates, whose parameters stand in braces, and the methods that each takes.
    """
    parts = path[:200].strip("/").split("/")
    if parts[:1] in (["api"], ["rest"]):
        parts = parts[1:]
    versioned = [_VERSION, *(parts[1:] if re.fullmatch(r"v\d+", parts[0] if parts else "") else parts)]
    best, found = _ALIKE_ROUTES, None
    for template, methods in routes:
        for sent in (parts, versioned):
            alike = _alike(sent, template.strip("/").split("/"))
            better = alike + (0.01 if method in methods else 0)
            if alike >= _ALIKE_ROUTES and better > best:
                best, found = better, f"{method if method in methods else min(methods)} {template}"
    return found


def _alike(sent: Sequence[str], template: Sequence[str]) -> float:
    """Return how alike a path and a template are: 1 if it is that route, 0 if it has not as many parts."""
    if len(sent) != len(template):
        return 0
    literal = [(one, other) for one, other in zip(sent, template, strict=True) if not other.startswith("{")]
    if any(not one for one in sent) or not literal:
        return 0
    return min(difflib.SequenceMatcher(None, one.lower(), other).ratio() for one, other in literal)
