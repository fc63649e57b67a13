"""Session tokens: bearer tokens that let a browser append to one session.

The secret of the key's family signs them, so they need no look-up and survive the key's rotation, but not its
revocation.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from itsdangerous import BadData, URLSafeSerializer

from conversation.keys.api_keys import Key

LIFETIME_S = 24 * 3600
PREFIX = "turnlog_st_"
TOKEN_OWNER = "token:"  # noqa: S105 - it begins the owner of a session that a page opened; a user's own begins otherwise
_MAX_LENGTH = 1000  # characters


@dataclass(frozen=True, slots=True)
class SessionToken:
    """`owner`: the session's owner as the database stores it."""

    session_id: str
    owner: str


def owner_of(key: Key, claim: str) -> str:
    """Return the owner of the sessions that a claim creates with a key family; it differs for another family."""
    return TOKEN_OWNER + hashlib.sha256(f"{key.project}\n{key.family}\n{claim}".encode()).hexdigest()


def issue(key: Key, session_id: str, owner: str) -> tuple[str, datetime]:
    """Return a token and when it expires."""
    expires = int(time.time()) + LIFETIME_S
    payload = {"k": str(key.family), "p": key.project, "s": session_id, "o": owner, "c": "append", "e": expires}
    text = _signer(key).dumps(payload)
    return PREFIX + (text if isinstance(text, str) else text.decode()), datetime.fromtimestamp(expires, UTC)


def read(key: Key, text: str) -> SessionToken | None:
    """Return a verified token; None unless it is intact, of this key's family and project, and not expired."""
    if not text.startswith(PREFIX) or len(text) > _MAX_LENGTH:
        return None
    try:
        payload = _signer(key).loads(text.removeprefix(PREFIX))
    except BadData:
        return None
    if (payload["k"], payload["p"], payload["c"]) != (str(key.family), key.project, "append"):
        return None
    return SessionToken(payload["s"], payload["o"]) if payload["e"] > time.time() else None


def _signer(key: Key) -> URLSafeSerializer:
    return URLSafeSerializer(
        key.token_secret, salt="turnlog.session-token", signer_kwargs={"digest_method": hashlib.sha256}
    )
