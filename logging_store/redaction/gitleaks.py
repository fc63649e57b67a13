"""Finds secrets by the rules of gitleaks, read from the file that it is set up by.

gitleaks is a program of its own that can't be asked for each record, but its rules are in RE2's syntax. As there, a
rule is tried where one of its keywords stands; its secret has to be random enough, and not be what an allowlist names.
Rules and lists that look at paths or commits say nothing of a text, and are left out.
"""

import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from logging_store.redaction.linear_regex import Pattern, Span


class Gitleaks:
    """Raises `ValueError`, in a sentence, for a file that holds no such rules."""

    name, marker = "secrets", "[secret]"

    def __init__(self, file: Path) -> None:
        try:
            config = tomllib.loads(file.read_text(encoding="utf-8"))
            rules = [_Rule(rule) for rule in config.get("rules", ()) if rule.get("regex") and "path" not in rule]
            lists = _allowlists(config)
        except OSError as error:
            raise ValueError(f"{file} can't be read: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{file} is no gitleaks.toml that this version can read: {error}") from None
        if not rules:
            raise ValueError(f"{file} has no rules; gitleaks' own file is config/gitleaks.toml in its repository")
        self._rules = rules
        self._allowed = lists
        self._hint = None
        if all(rule.keywords for rule in rules):
            words = sorted({word for rule in rules for word in rule.keywords})
            self.hint = "(?i)" + "|".join(_quoted(word) for word in words)
            self._hint = Pattern(self.hint)
        else:
            self.hint = ""  # some rule is tried in every text

    def find(self, text: bytes) -> Iterator[Span]:
        if self._hint and not self._hint.is_in(text):
            return
        lowered = text.lower()
        for rule in self._rules:
            if not rule.keywords or any(word.encode() in lowered for word in rule.keywords):
                for whole, secret in rule.matches(text):
                    if not any(each.allows(text, whole, secret) for each in self._allowed):
                        yield secret
                yield Span(0, 0)  # there are hundreds


class _Allowlist:
    def __init__(self, stated: Mapping[str, Any]) -> None:
        self._regexes = [Pattern(each) for each in stated.get("regexes", ())]
        self._stopwords = [word.lower().encode() for word in stated.get("stopwords", ())]
        self._target = stated.get("regexTarget", "secret")
        self._needs_all = stated.get("condition", "OR").upper() in {"AND", "&&"}
        # what only a path or a commit can meet is never met
        self._elsewhere = bool(stated.get("paths") or stated.get("commits"))

    def allows(self, text: bytes, whole: Span, secret: Span) -> bool:
        if self._target == "match":
            judged = text[whole.start : whole.end]
        elif self._target == "line":
            start, end = text.rfind(b"\n", 0, whole.start) + 1, text.find(b"\n", whole.end)
            judged = text[start : end if end >= 0 else len(text)]
        else:
            judged = text[secret.start : secret.end]
        met = []
        if self._regexes:
            met.append(any(regex.is_in(judged) for regex in self._regexes))
        if self._stopwords:
            lowered = text[secret.start : secret.end].lower()
            met.append(any(word in lowered for word in self._stopwords))
        if self._needs_all:
            return bool(met) and all(met) and not self._elsewhere
        return any(met)


class _Rule:
    def __init__(self, stated: Mapping[str, Any]) -> None:
        self.keywords: Sequence[str] = [word.lower() for word in stated.get("keywords", ())]
        self._pattern = Pattern(stated["regex"])
        self._group = int(stated.get("secretGroup", 0))
        self._entropy = float(stated.get("entropy", 0))
        self._allowed = _allowlists(stated)

    def matches(self, text: bytes) -> Iterator[tuple[Span, Span]]:
        """Yield each match as a whole, and the secret in it."""
        for whole, *groups in self._pattern.groups_of(text):
            if self._group:
                secret = groups[self._group - 1]
            else:
                secret = next((group for group in groups if group.end > group.start), whole)
            if secret.end <= secret.start or _entropy(text[secret.start : secret.end]) < self._entropy:
                continue
            if not any(each.allows(text, whole, secret) for each in self._allowed):
                yield whole, secret


def _allowlists(stated: Mapping[str, Any]) -> list[_Allowlist]:
    lists = list(stated.get("allowlists", ()))
    if "allowlist" in stated:  # as it was spelled until version 8.21
        lists.append(stated["allowlist"])
    return [_Allowlist(each) for each in lists if not each.get("targetRules")]


def _entropy(secret: bytes) -> float:
    """Return Shannon's entropy, in bits for each byte."""
    return -sum(n / len(secret) * math.log2(n / len(secret)) for n in Counter(secret).values())


def _quoted(word: str) -> str:
    return "".join(sign if sign.isalnum() else f"\\x{{{ord(sign):x}}}" for sign in word)
