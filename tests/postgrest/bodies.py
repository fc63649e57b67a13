"""What a request body may be, and which arguments it names.

The JSON text itself goes to Postgres as it came, so numbers keep their digits. PostgREST refuses what is not
strict JSON (NaN, raw control characters, lone surrogates, invalid UTF-8) before Postgres sees it.
"""

import json
import re
from dataclasses import dataclass

from tests.postgrest import answers

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Arguments:
    """Names in sorted order, the JSON text, and whether it is a list whose first object counts."""

    names: tuple[str, ...]
    text: bytes
    is_list: bool = False


def arguments(body: bytes) -> Arguments:
    if not body:
        return Arguments((), b"{}")
    try:
        value = _DECODER.decode(body.decode())
        if _SURROGATE_ESCAPE.search(body):
            json.dumps(value, ensure_ascii=False).encode()  # fails on a surrogate that has no partner
    except RecursionError as failure:
        # Python's parser gives up at about 1,000 levels; the real server leaves that to Postgres, which
        # gives up later, in the same words.
        too_deep = answers.PostgresErrorFields("54001", "stack depth limit exceeded")
        raise answers.RefusalError(answers.postgres_error(too_deep, anonymous=False)) from failure
    except ValueError as failure:
        raise answers.RefusalError(answers.invalid_body()) from failure
    is_list = isinstance(value, list)
    first = value[0] if is_list and value else value
    names = tuple(sorted(first)) if isinstance(first, dict) else ()
    return Arguments(names, body, is_list)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


# Numbers stay text: they are not looked at here, and Python refuses integers of more than 4,300 digits.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=str, parse_float=str)
