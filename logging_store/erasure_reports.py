"""Reports of what was erased, signed so that who gets one later can tell that it is the service's and unchanged.

The signature is an HMAC-SHA256 over the report without it, as JSON with sorted keys and without spaces, so a report may
be stored or indented by any program in between.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

Report = dict[str, Any]

#: Counts of what went from this machine's disk.
HERE = ("spooled", "dead_letters")
COUNTS = ("sessions", "interactions", "participants", "feedback", "participations", "turns", "folders", *HERE)
#: What goes from a disk without a spool.
NOTHING_HERE: Report = {"spooled": 0, "dead_letters": 0, "unreadable_files": 0}
_BETWEEN_STORES = ("folder_id", "session_number", "session_ids", "left", "after")  # no part of a report


def summed(report: Report, step: Mapping[str, Any], counts: Sequence[str]) -> Report:
    """Return a report with a further step of the same erasure; its counts are of both."""
    return {**report, **step, **{name: report.get(name, 0) + step[name] for name in counts if name in step}}


def signed(report: Report, key: str) -> Report:
    """Return a report with its signature. `key`: see `operations.ReportKey`."""
    told = {name: value for name, value in report.items() if name not in _BETWEEN_STORES}
    return told | {"signature": _signature(told, key)}


def is_signed(report: Report, key: str) -> bool:
    """Tell whether a report has the signature that it had when it was made."""
    told = report.get("signature")
    without = {name: value for name, value in report.items() if name != "signature"}
    return isinstance(told, str) and hmac.compare_digest(told.encode(), _signature(without, key).encode())


def _signature(report: Report, key: str) -> str:
    spelled = json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"hmac-sha256:{hmac.digest(bytes.fromhex(key), spelled.encode(), hashlib.sha256).hex()}"
