"""SQL as text: cut into statements, as the Supabase CLI cuts it, and into functions."""

import re

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|;|[^-/'"$;]+|.""", re.DOTALL
)


def statements_of(sql: str) -> list[str]:
    """Return the statements of a file, without what is empty or only a comment."""
    found, current = [], ""
    for token in _TOKEN.finditer(sql):
        if token[0] == ";":
            found.append(current)
            current = ""
        else:
            current += token[0]
    return [statement.strip() for statement in [*found, current] if without_comments(statement).strip()]


def without_comments(sql: str) -> str:
    """Return SQL without its comments; texts stay as they are."""
    return "".join("" if token[0].startswith(("--", "/*")) else token[0] for token in _TOKEN.finditer(sql))
