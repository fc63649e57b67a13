"""Signed reports of erasures, which prove later that this service made them and that nobody changed them.

The signature is an HMAC-SHA256 over the report without it, as JSON with sorted keys and without spaces, so any program
may store or indent a report in between:

    {"session_id": "…", "interactions": 12, "erased_at": "…", "signature": "hmac-sha256:…"}
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

Report = dict[str, Any]

#: Counts of what was erased from this machine's disk.
LOCAL_COUNTS = ("spooled", "dead_letters")
COUNTS = ("sessions", "interactions", "participants", "feedback", "participations", "turns", "folders", *LOCAL_COUNTS)
#: A report before its first step; without a spool its counts stay 0.
EMPTY: Report = {"spooled": 0, "dead_letters": 0, "unreadable_files": 0}
_INTERNAL_FIELDS = ("folder_id", "session_number", "session_ids", "left", "after")  # of a step, not of a report


def add_step(report: Report, step: Mapping[str, Any], counts: Sequence[str]) -> Report:
    """Return a report with a further step of the same erasure; the fields named in `counts` are added up."""
    return {**report, **step, **{name: report.get(name, 0) + step[name] for name in counts if name in step}}


def sign(report: Report, key: str) -> Report:
    """Return a report with its signature. `key`: see `operations.ReportKey`."""
    public = {name: value for name, value in report.items() if name not in _INTERNAL_FIELDS}
    return public | {"signature": _signature(public, key)}


def verify(report: Report, key: str) -> bool:
    """Return whether a report's signature is valid."""
    signature = report.get("signature")
    signed = {name: value for name, value in report.items() if name != "signature"}
    return isinstance(signature, str) and hmac.compare_digest(signature.encode(), _signature(signed, key).encode())


def _signature(report: Report, key: str) -> str:
    canonical = json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"hmac-sha256:{hmac.digest(bytes.fromhex(key), canonical.encode(), hashlib.sha256).hex()}"
