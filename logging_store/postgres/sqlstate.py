"""Maps SQLSTATE codes to Turnlog's errors.

Both drivers return PostgreSQL's SQLSTATE (PostgREST as the body's `code`, along with codes of its own), so errors are
classified here once, by code and never by HTTP status.
"""

import re
from collections.abc import Mapping

from logging_store.errors import (
    Conflict,
    Invalid,
    Misconfigured,
    OtherDatabase,
    SchemaMissing,
    StoreBusy,
    StoreError,
    StoreLocked,
    StoreReadOnly,
    StoreReconnecting,
    StoreUnavailable,
)

_UNAVAILABLE = re.compile(
    r"08...|40001|40003|40P01|53...|57...|58...|25P0[34]|PGRST003|XX000"  # XX000: raised by poolers
)
_RECONNECTING = re.compile(r"PGRST00[0-2]")  # no connection, connection lost, no schema cache
_STATES = {"55P03": StoreLocked, "57014": StoreBusy, "25006": StoreReadOnly}
_MISCONFIGURED = re.compile(r"42...|28...|3D000|0A000|PGRST.*")
_INVALID = re.compile(r"22...|23502|23514|54...|2300[01]|21000")

_OTHER_DATABASE = "TL001"  # raised by turnlog.write
_SCHEMA_MISSING = frozenset({"3F000", "42883", "42P01", "PGRST202"})
_SETUP_HINT = "apply the migrations (`turnlog migrate`, or supabase/migrations/*.sql in the SQL editor)"
_HINTS = {
    "42501": "the key or role may not run Turnlog's functions: use the secret (service_role) key, or the tables' owner",
    "3F000": _SETUP_HINT,
    "42883": _SETUP_HINT,
    "42P01": _SETUP_HINT,
    "PGRST202": _SETUP_HINT + "; on Supabase, `notify pgrst, 'reload schema'` afterwards",
    "PGRST106": "expose the schema `public`, where the function `turnlog` is, in the API settings",
    "PGRST301": "the key is not one of this project's: check SUPABASE_SECRET_KEY",
    "PGRST303": "the key has expired: make a new secret key",
    "22023": "the key names a role that the database doesn't have: use the secret (service_role) key",
    "28P01": "check the user and password in DATABASE_URL",
    "28000": "check the user and password in DATABASE_URL",
    "3D000": "the database in DATABASE_URL doesn't exist",
}

_KEY_VALUES = re.compile(r"Key \((?P<columns>.*?)\)=\((?P<values>.*)\) ", re.DOTALL)
_CHECK = re.compile(r"ai_(?:sessions|interactions|session_folders|session_participants)_(\w+)_check")
_VALUE = re.compile(r'".*"', re.DOTALL)
_QUOTED = re.compile(r'"([^"]+)"')


def classify(
    code: str,
    message: str,
    *,
    detail: str | None = None,
    constraint: str | None = None,
    column: str | None = None,
) -> StoreError:
    """Return the error for a SQLSTATE; the caller raises it from the driver's own."""
    if code.startswith("22") and not (code == "22023" and message.startswith("role ")):
        return Invalid(f"{without_values(message)} ({code})", field=column or _find_field(message, constraint))
    if code in {"23505", "23503", "23P01"}:
        return _conflict(message, detail, constraint)
    if hint := _HINTS.get(code):
        kind = SchemaMissing if code in _SCHEMA_MISSING else Misconfigured
        return kind(f"{message} ({code}): {hint}")
    if code == _OTHER_DATABASE:
        return OtherDatabase(message)
    if state := _STATES.get(code):
        return state(f"{message} ({code})")
    if _RECONNECTING.fullmatch(code):
        return StoreReconnecting(f"Supabase's API is reconnecting to its database: {message} ({code})")
    if _UNAVAILABLE.fullmatch(code):
        return StoreUnavailable(f"{message} ({code})")
    if _INVALID.fullmatch(code):
        return Invalid(f"{message} ({code})", field=column or _find_field(message, constraint))
    if _MISCONFIGURED.fullmatch(code):
        return Misconfigured(f"{message} ({code})")
    return StoreUnavailable(f"{message} ({code})")


def without_values(message: str) -> str:
    """Return a message without quoted values, which may be what people wrote."""
    return _VALUE.sub('"…"', message)


def _conflict(message: str, detail: str | None, constraint: str | None) -> Conflict:
    """Return the conflict of a unique or foreign key, with its constraint and the attempted values."""
    if constraint is None and (quoted := _QUOTED.findall(message)):
        constraint = quoted[-1]
    columns: tuple[str, ...] = ()
    attempted: Mapping[str, str | None] = {}
    if key := _KEY_VALUES.match(detail or ""):
        columns = tuple(key["columns"].split(", "))
        values = key["values"].split(", ")
        # a value may contain the separator: then all values are reported as one
        attempted = (
            dict(zip(columns, values, strict=True)) if len(values) == len(columns) else {key["columns"]: key["values"]}
        )
    return Conflict(message, constraint=constraint, columns=columns, attempted=attempted)


def _find_field(message: str, constraint: str | None) -> str | None:
    """Return the field of a check or not-null violation; our checks are named TABLE_FIELD_check."""
    name = constraint or next(iter(reversed(_QUOTED.findall(message))), None)
    if name and (check := _CHECK.fullmatch(name)):
        return check[1]
    if quoted := re.search(r'column "([^"]+)"', message):
        return quoted[1]
    return None
