"""The names that hand-written loggers have, over one log whose settings are in the environment."""

from __future__ import annotations

import threading
from typing import Any

from turnlog.client import Turnlog

_lock = threading.Lock()
_default: list[Turnlog] = []


def default() -> Turnlog:
    """Return the log that TURNLOG_URL and TURNLOG_KEY name, the same one each time."""
    if not _default:
        with _lock:
            if not _default:
                _default.append(Turnlog())
    return _default[0]


def create_session(session_id: str | None = None, user_id: str | None = None) -> str:
    """Log a session and return its id."""
    return default().create_session(session_id, user_id)


def log_interaction(
    session_id: str | None = None, user_input: Any = None, ai_response: Any = None, **fields: Any
) -> str:
    """Log an interaction and return its id; see `Turnlog.log_interaction`."""
    return default().log_interaction(session_id, user_input, ai_response, **fields)
