"""Checks and findings, and their output as a table or JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem: what was found, what it means, and how to fix it. `fix`: commands or SQL statements to run."""

    found: str
    means: str
    fix: Sequence[str]


@dataclass(frozen=True, slots=True)
class Check:
    """A check and its findings. `summary`: the result if there are none."""

    name: str
    summary: str
    findings: Sequence[Finding] = field(default=())

    @property
    def is_ok(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        findings = [{"found": each.found, "means": each.means, "fix": list(each.fix)} for each in self.findings]
        return {"check": self.name, "ok": self.is_ok, "summary": self.summary, "findings": findings}


def to_json(checks: Sequence[Check]) -> str:
    ok = all(check.is_ok for check in checks)
    return json.dumps({"ok": ok, "checks": [check.to_json() for check in checks]}, ensure_ascii=False)


def some(examples: Sequence[Any], count: int) -> str:
    """Return examples out of `count` values as text."""
    shown = ", ".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in examples)
    return f"{shown}, …" if count > len(examples) else shown


def number_of(count: int, thing: str, plural: str | None = None) -> str:
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"
