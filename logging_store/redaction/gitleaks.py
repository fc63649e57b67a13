"""Finds secrets by the rules of gitleaks, read from its configuration file.

gitleaks is a program that can't be called per record, but its rules are in RE2's syntax. As in gitleaks, a rule is
tried in texts with one of its keywords, and a secret must have a minimum entropy and match no allowlist. Rules and
allowlists on paths or commits don't apply to texts and are left out.
"""

import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from logging_store.redaction.linear_regex import Pattern, Span


class Gitleaks:
    """Finds secrets by rules. Raises `ValueError`, with a sentence for the operator, for a file without rules."""

    name, marker = "secrets", "[secret]"

    def __init__(self, file: Path) -> None:
        try:
            config = tomllib.loads(file.read_text(encoding="utf-8"))
            rules = [_Rule(rule) for rule in config.get("rules", ()) if rule.get("regex") and "path" not in rule]
            lists = _allowlists(config)
        except OSError as error:
            raise ValueError(f"{file} can't be read: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{file} isn't a gitleaks.toml that this version can read: {error}") from None
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
            self.hint = ""  # a rule without keywords is tried in every text

    def find(self, text: bytes) -> Iterator[Span]:
        if self._hint and not self._hint.matches(text):
            return
        lowered = text.lower()
        for rule in self._rules:
            if not rule.keywords or any(word.encode() in lowered for word in rule.keywords):
                for whole, secret in rule.matches(text):
                    if not any(each.allows(text, whole, secret) for each in self._allowed):
                        yield secret
                yield Span(0, 0)  # a heartbeat: there are hundreds of rules


class _Allowlist:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self._regexes = [Pattern(each) for each in config.get("regexes", ())]
        self._stopwords = [word.lower().encode() for word in config.get("stopwords", ())]
        self._target = config.get("regexTarget", "secret")
        self._needs_all = config.get("condition", "OR").upper() in {"AND", "&&"}
        # conditions on paths or commits are never met
        self._has_other_conditions = bool(config.get("paths") or config.get("commits"))

    def allows(self, text: bytes, whole: Span, secret: Span) -> bool:
        if self._target == "match":
            candidate = text[whole.start : whole.end]
        elif self._target == "line":
            start, end = text.rfind(b"\n", 0, whole.start) + 1, text.find(b"\n", whole.end)
            candidate = text[start : end if end >= 0 else len(text)]
        else:
            candidate = text[secret.start : secret.end]
        met = []
        if self._regexes:
            met.append(any(regex.matches(candidate) for regex in self._regexes))
        if self._stopwords:
            lowered = text[secret.start : secret.end].lower()
            met.append(any(word in lowered for word in self._stopwords))
        if self._needs_all:
            return bool(met) and all(met) and not self._has_other_conditions
        return any(met)


class _Rule:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.keywords: Sequence[str] = [word.lower() for word in config.get("keywords", ())]
        self._pattern = Pattern(config["regex"])
        self._group = int(config.get("secretGroup", 0))
        self._entropy = float(config.get("entropy", 0))
        self._allowed = _allowlists(config)

    def matches(self, text: bytes) -> Iterator[tuple[Span, Span]]:
        """Yield each match as a whole, and the secret in it."""
        for whole, *groups in self._pattern.match_groups(text):
            if self._group:
                secret = groups[self._group - 1]
            else:
                secret = next((group for group in groups if group.end > group.start), whole)
            if secret.end <= secret.start or _entropy(text[secret.start : secret.end]) < self._entropy:
                continue
            if not any(each.allows(text, whole, secret) for each in self._allowed):
                yield whole, secret


def _allowlists(config: Mapping[str, Any]) -> list[_Allowlist]:
    lists = list(config.get("allowlists", ()))
    if "allowlist" in config:  # the name until version 8.21
        lists.append(config["allowlist"])
    return [_Allowlist(each) for each in lists if not each.get("targetRules")]


def _entropy(secret: bytes) -> float:
    """Return the Shannon entropy in bits per byte."""
    return -sum(n / len(secret) * math.log2(n / len(secret)) for n in Counter(secret).values())


def _quoted(word: str) -> str:
    return "".join(sign if sign.isalnum() else f"\\x{{{ord(sign):x}}}" for sign in word)
