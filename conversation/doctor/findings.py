"""Checks and findings, and their output as a table or JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from conversation.columns import in_columns


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


def to_table(checks: Sequence[Check]) -> str:
    """Return a table with a row for each passed check and each finding; fixes have rows of their own."""
    rows = [("check", "state", "what")]
    for check in checks:
        if check.is_ok:
            rows.append((check.name, "ok", check.summary))
        for finding in check.findings:
            rows.append(
                (check.name, "TROUBLE", " ".join(finding.found.split()))
            )  # drivers' messages may have several lines
            rows.append(("", "", finding.means))
            rows += [("", "  fix:", command) for command in finding.fix]
    return in_columns(rows)


def some(examples: Sequence[Any], count: int) -> str:
    """Return examples out of `count` values as text."""
    shown = ", ".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in examples)
    return f"{shown}, …" if count > len(examples) else shown


def number_of(count: int, thing: str, plural: str | None = None) -> str:
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"
