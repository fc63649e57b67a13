"""Small changes of a function in SQL, each at one place: a statement left out, a condition negated, a bound moved.

Text only: whether PostgreSQL still takes the function has to be tried. Left alone are the settings of a function, its
declarations, comments, and what stands in strings.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from tests.mutants.mutations import Mutation

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
      | (?P<text>'(?:[^']|'')*')
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign>:=|=>|::|->>|->|\#>>|\#>|\|\||<=|>=|<>|@\?|\d+|.)""",
    re.VERBOSE | re.DOTALL,
)
_BODY = re.compile(r"\nas \$\$\n(.*?)\n\$\$;", re.DOTALL)
_TURNED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "=": "<>", "<>": "=", "true": "false", "false": "true"}
#: What ends a condition of `where` in the same parentheses.
_AFTER_WHERE = {
    "group", "order", "having", "limit", "offset", "for", "returning", "union", "except", "intersect", "loop", "into",
    "on", ";", "",
}  # fmt: skip
#: What a statement is kept with: what stands in its place would not be PL/pgSQL, or says nothing.
_KEPT = {"return", "null", "declare"}


class _Token:
    __slots__ = ("depth", "end", "start", "word")

    def __init__(self, word: str, start: int, end: int, depth: int) -> None:
        self.word, self.start, self.end, self.depth = word, start, end, depth


def sql_mutations(source: bytes) -> list[Mutation]:
    """Return changes of the functions in a file of `supabase/schemas`."""
    text = source.decode()
    found = []
    for body in _BODY.finditer(text):
        head = text[: body.start()]
        is_procedural = "language plpgsql" in head[head.rindex("create or replace function") :]
        tokens = _tokens(text, body.start(1), body.end(1))
        if is_procedural:  # declarations say what a name is
            tokens = tokens[next(n for n, each in enumerate(tokens) if each.word == "begin") :]
            found += list(_dropped(tokens, text))
        found += list(_changed(tokens, text))
    return [
        Mutation(
            text.count("\n", 0, start) + 1,
            len(text[:start].encode()),
            len(text[:end].encode()),
            text[start:end],
            after,
        )
        for start, end, after in sorted(set(found))
    ]


def _tokens(text: str, start: int, end: int) -> list[_Token]:
    tokens, depth = [], 0
    for match in _TOKEN.finditer(text, start, end):
        if match["space"]:
            continue
        word = match[0].lower()
        depth -= word in {")", "]"}
        tokens.append(_Token(word, match.start(), match.end(), depth))
        depth += word in {"(", "["}
    return [*tokens, _Token("", end, end, 0)]


def _dropped(tokens: list[_Token], text: str) -> Iterator[tuple[int, int, str]]:
    """Leave out one statement of PL/pgSQL, and negate one condition of its control structures."""
    n = 0
    while tokens[n].word:
        word = tokens[n].word
        if tokens[n - 1].word == "end" and n:  # `end if`, `end loop`, `end case`
            n += 1
        elif word in {"if", "elsif", "while"}:
            end = _until(tokens, n + 1, {"loop"} if word == "while" else {"then"})
            yield _negated(tokens, text, n + 1, end)
            n = end + 1
        elif word in {"for", "foreach"}:
            n = _until(tokens, n + 1, {"loop"}) + 1
        elif word in {"case", "when"}:
            n = _until(tokens, n + 1, {"when"} if word == "case" else {"then"})
            n += word == "when"
        elif word in {"begin", "else", "exception", "end", ";"}:
            n += 1
        else:
            end = _until(tokens, n, {";"})
            if word not in _KEPT:
                yield tokens[n].start, tokens[end - 1].end, "null"
            n = end + 1


def _until(tokens: list[_Token], n: int, words: set[str]) -> int:
    """Return where the next of some words stands that isn't within parentheses or a `case` of its own."""
    depth, cases = tokens[n].depth, 0
    while tokens[n].word and (tokens[n].word not in words or tokens[n].depth > depth or cases):
        cases += (tokens[n].word == "case") - (tokens[n].word == "end")
        n += 1
    return n


def _negated(tokens: list[_Token], text: str, first: int, end: int) -> tuple[int, int, str]:
    start, stop = tokens[first].start, tokens[end - 1].end
    return start, stop, f"not coalesce(({text[start:stop]}), false)"  # what is unknown counts as false


def _changed(tokens: list[_Token], text: str) -> Iterator[tuple[int, int, str]]:  # noqa: C901 - one case a line
    """Change one condition of a query, wherever it stands."""
    for n, (before, token) in enumerate(pairwise(tokens), start=1):
        after = tokens[n + 1].word if n + 1 < len(tokens) else ""
        match token.word:
            case "where":
                end = n + 1
                while tokens[end].depth > token.depth or (
                    tokens[end].depth == token.depth and tokens[end].word not in _AFTER_WHERE
                ):
                    end += 1
                yield _negated(tokens, text, n + 1, end)
            case "when":
                end = _until(tokens, n + 1, {"then"})
                if end > n + 2:  # not a constant
                    yield _negated(tokens, text, n + 1, end)
            case "exists" if before.word == "not":
                yield before.start, token.end, "exists"
            case "exists":
                yield token.start, token.end, "not exists"
            case "is":
                yield (token.start, tokens[n + 1].end, "is") if after == "not" else (token.start, token.end, "is not")
            case "and" if not _ends_between(tokens, n):
                yield token.start, token.end, "or"
            case "or":
                yield token.start, token.end, "and"
            case "<" | "<=" | ">" | ">=" | "=" | "<>" | "true" | "false":
                yield token.start, token.end, _TURNED[token.word]


def _ends_between(tokens: list[_Token], n: int) -> bool:
    depth = tokens[n].depth
    for token in reversed(tokens[:n]):
        if token.depth < depth or (token.depth == depth and token.word in {"and", "or", "where", "when", "if"}):
            return False
        if token.depth == depth and token.word == "between":
            return True
    return False
