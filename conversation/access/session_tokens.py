"""A session's token: who holds it may append to that session.

Signed by the family of the key that opened the session, so it needs no look-up and outlives the key's rotation, not
the end of the key itself.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from itsdangerous import BadData, URLSafeSerializer

from conversation.access.api_keys import Key

LIFETIME_S = 24 * 3600
PREFIX = "turnlog_st_"
_LONGEST = 1000  # characters


@dataclass(frozen=True, slots=True)
class SessionToken:
    """`owner`: whose the session is, as the database knows it."""

    session_id: str
    owner: str


def owner_of(key: Key, claim: str) -> str:
    """Return who holds the sessions that a claim opens with a key; with another key the same claim is somebody else."""
    return "token:" + hashlib.sha256(f"{key.project}\n{key.family}\n{claim}".encode()).hexdigest()


def issue(key: Key, session_id: str, owner: str) -> tuple[str, datetime]:
    """Return a token and when it ends."""
    ends = int(time.time()) + LIFETIME_S
    said = {"k": str(key.family), "p": key.project, "s": session_id, "o": owner, "c": "append", "e": ends}
    text = _signer(key).dumps(said)
    return PREFIX + (text if isinstance(text, str) else text.decode()), datetime.fromtimestamp(ends, UTC)


def read(key: Key, text: str) -> SessionToken | None:
    """Return what a token says; None unless it is whole, of this key's family and project, and not over."""
    if not text.startswith(PREFIX) or len(text) > _LONGEST:
        return None
    try:
        said = _signer(key).loads(text.removeprefix(PREFIX))
    except BadData:
        return None
    if (said["k"], said["p"], said["c"]) != (str(key.family), key.project, "append") or said["e"] <= time.time():
        return None
    return SessionToken(said["s"], said["o"])


def _signer(key: Key) -> URLSafeSerializer:
    return URLSafeSerializer(
        key.token_secret, salt="turnlog.session-token", signer_kwargs={"digest_method": hashlib.sha256}
    )
