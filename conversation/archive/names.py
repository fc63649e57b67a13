"""Which ids of other systems can name one of our records, and what is wrong with those that can't."""

from typing import Any

from conversation.archive.dialogues import NotADialogueError, check_name
from logging_store.records.values import PLACEHOLDERS


def usable(was: Any) -> tuple[str | None, str | None]:
    """Return an id as a name, or else why it is none: null, blank, a placeholder, not a name."""
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
        check_name(name)
    except NotADialogueError:
        return None, "not a name"
    return name, None
