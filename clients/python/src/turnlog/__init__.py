"""Turnlog for Python: log a conversation with one line, and lose nothing.

    from turnlog import Turnlog

    log = Turnlog(url="http://127.0.0.1:8000", key="turnlog_sk_…")
    chat = log.session("chat-42", user_id="ada")
    with chat.turn(prompt="What is a session?") as turn:
        turn.append("One ")
        turn.append("conversation.")
        turn.complete(model="small-1")

When a call returns, its record is in a spool on this machine's disk and outlives the process; its receipt says what
became of it. A failure of logging never reaches the program.
"""

from turnlog.aio import AsyncSession, AsyncTurn, AsyncTurnlog
from turnlog.client import Session, Turn, Turnlog, current_session
from turnlog.default import create_session, default, log_interaction
from turnlog.receipts import FlushReport, Outcome, Receipt
from turnlog.wrap import wrap_anthropic, wrap_openai

__version__ = "0.1.0"

__all__ = [
    "AsyncSession", "AsyncTurn", "AsyncTurnlog", "FlushReport", "Outcome", "Receipt", "Session", "Turn", "Turnlog",
    "create_session", "current_session", "default", "log_interaction", "wrap_anthropic",
    "wrap_openai",
]  # fmt: skip
