"""The keys of sessions from files and other databases: which are usable, and keys for sessions without one."""

from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from conversation.archive.entries import InvalidDocumentError
from conversation.refusals import validation_messages
from logging_store.records.values import PLACEHOLDERS, Identifier

_KEY: TypeAdapter[str] = TypeAdapter(Identifier)


def document_key(document: dict[str, Any]) -> str | None:
    """Return a session's key: the document's own `id`; None without one."""
    match document.get("id"):
        case None:
            return None
        case int() as number if not isinstance(number, bool):
            return str(number)
        case str() as name:
            return name
    raise InvalidDocumentError("$.id: Must be a text or a number")


def check_key(name: str) -> None:
    """Raise `InvalidDocumentError` for a text that is no valid session key."""
    try:
        _KEY.validate_python(name)
    except ValidationError as error:
        reason = validation_messages.sentence(error.errors()[0])
        raise InvalidDocumentError(f"Its id {name[:50]!r} can't be used: {reason}") from None


def key_from_content(document: dict[str, Any]) -> str:
    """Return a key derived from a document's content; formatting and the order of fields make no difference."""
    return f"sha256-{sha256(canonical(document)).hexdigest()}"


def usable_key(was: Any) -> tuple[str | None, str | None]:
    """Return another system's id as a session key; or None and the reason: null, blank, a placeholder, not a name."""
    if was is None:
        return None, "null"
    name = str(was) if isinstance(was, int) and not isinstance(was, bool) else was
    if not isinstance(name, str):
        return None, "not a name"
    if not name.strip():
        return None, "blank"
    if name.strip().lower() in PLACEHOLDERS:
        return None, "a placeholder"
    try:
        check_key(name)
    except InvalidDocumentError:
        return None, "not a name"
    return name, None


def canonical(document: dict[str, Any]) -> bytes:
    """Return a document as JSON with its fields in order."""
    return to_json(_sorted(document), inf_nan_mode="strings")


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {key: _sorted(value[key]) for key in sorted(value)}
        case list():
            return [_sorted(item) for item in value]
    return value
