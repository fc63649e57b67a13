"""Which sessions are whose, of callers who only reach their own."""

import secrets
from collections.abc import Callable
from functools import cached_property

from flask import Request

from conversation.access import session_tokens
from conversation.access.api_keys import Key
from conversation.problem_codes import Refused
from logging_store.errors import NotOwner

TOKEN_HEADER, CLAIM_HEADER = "Turnlog-Session-Token", "Turnlog-Session-Claim"
_MOST_TOKENS = 20
_BROWSER = "browser"  # the author of what pages say with a publishable key, which anybody reads there
_SHORTEST_CLAIM, _LONGEST_CLAIM = 16, 200


class Claims:
    """What a caller can show of sessions: to be their user, or to hold the tokens that came with the request.

    `creating`: set where the call makes a session, which belongs to who shows the same claim again. It is asked before
    that happens, and raises if they may not.
    """

    def __init__(self, user_id: str | None, key: Key | None, sent: Request) -> None:
        self.user_id = user_id
        self.creating: Callable[[], None] | None = None
        self._key = key
        self._sent = sent

    @property
    def author(self) -> str:
        """Return in whose name the caller speaks: never in that of anybody else."""
        return self.user_id or _BROWSER

    def owner_of(self, session_id: str) -> str:
        """Return whose a session must be for this call to reach it. Raises `NotOwner` without its token."""
        if self.user_id is not None:
            return f"user:{self.user_id}"
        if owner := self._shown.get(session_id):
            return owner
        if self.creating:
            return self._claim
        raise NotOwner(f"Append to a session with its token, in the header {TOKEN_HEADER}: it is missing or over")

    def token(self, session_id: str) -> dict[str, str]:
        """Return the token of a session that was found to be the caller's, and when it ends; nothing for users."""
        if self._key is None:
            return {}
        text, ends = session_tokens.issue(self._key, session_id, self.owner_of(session_id))
        return {"session_token": text, "session_token_expires_at": ends.isoformat()}

    @cached_property
    def _shown(self) -> dict[str, str]:
        """The owners of the sessions whose tokens came with the request."""
        texts = self._sent.headers.get(TOKEN_HEADER, "").split(",")
        if self._key is None or len(texts) > _MOST_TOKENS:
            raise Refused("invalid-session-token", f"{TOKEN_HEADER} may hold {_MOST_TOKENS} tokens")
        tokens = [session_tokens.read(self._key, text.strip()) for text in texts]
        return {token.session_id: token.owner for token in tokens if token}

    @cached_property
    def _claim(self) -> str:
        if self.creating:
            self.creating()
        claim = self._sent.headers.get(CLAIM_HEADER)
        if claim is None:
            claim = secrets.token_urlsafe()  # then nobody can show it again: a retry doesn't get a token
        elif not (_SHORTEST_CLAIM <= len(claim) <= _LONGEST_CLAIM and claim.isascii() and claim.isprintable()):
            raise Refused(
                "invalid-session-token",
                f"{CLAIM_HEADER} must be {_SHORTEST_CLAIM} to {_LONGEST_CLAIM} visible ASCII characters, at random",
            )
        assert self._key is not None  # noqa: S101 - a user has no need of a claim
        return session_tokens.owner_of(self._key, claim)
