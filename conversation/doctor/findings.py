"""What an examination says, and how it is printed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from conversation.columns import in_columns


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `mend`: what to run, each a `turnlog …` command or a statement of SQL."""

    found: str
    means: str
    mend: Sequence[str]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what was found. `told`: what there is to say when all is well."""

    name: str
    told: str
    findings: Sequence[Finding] = field(default=())

    @property
    def is_ok(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        findings = [{"found": each.found, "means": each.means, "mend": list(each.mend)} for each in self.findings]
        return {"check": self.name, "ok": self.is_ok, "told": self.told, "findings": findings}


def to_json(checks: Sequence[Check]) -> str:
    ok = all(check.is_ok for check in checks)
    return json.dumps({"ok": ok, "checks": [check.to_json() for check in checks]}, ensure_ascii=False)


def to_table(checks: Sequence[Check]) -> str:
    """Return one table: a row for each check that is well and for each finding; commands have lines of their own."""
    rows = [("check", "state", "what")]
    for check in checks:
        if check.is_ok:
            rows.append((check.name, "ok", check.told))
        for finding in check.findings:
            rows.append((check.name, "TROUBLE", " ".join(finding.found.split())))  # drivers' words may have lines
            rows.append(("", "", finding.means))
            rows += [("", "  mend:", command) for command in finding.mend]
    return in_columns(rows)


def some(examples: Sequence[Any], count: int) -> str:
    """Return the first few of `count` things as words."""
    shown = ", ".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in examples)
    return f"{shown}, …" if count > len(examples) else shown


def number_of(count: int, thing: str, plural: str | None = None) -> str:
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"
