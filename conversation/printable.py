"""Texts of callers, made safe to print: on a terminal, and in the lines of a log."""

import json
import re

_NOT_ASCII = re.compile(r"[^ -~]")
_LAYOUT = frozenset("\n\r\t")  # of a JSON document; within its strings they are escaped already


def one_line(text: str) -> str:
    r"""Return a text as one line, with everything that isn't printable escaped, as in `\x1b`.

    Not printable are control characters (also C1), line breaks, spaces other than the usual one, what turns the
    direction of text or takes no room, and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def several_lines(text: str) -> str:
    """Return a text whose line breaks are kept; continued lines are indented, so that none passes for another text."""
    first, *others = map(one_line, text.split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in others)])


def visible_json(document: str) -> str:
    r"""Return a JSON document of the same meaning, with everything that isn't printable escaped, as in `\u001b`."""
    return _NOT_ASCII.sub(_escape_in_json, document)


def _escape_in_json(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() or character in _LAYOUT else json.dumps(character)[1:-1]
