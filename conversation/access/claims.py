"""Session ownership for restricted callers, who reach only sessions of their own."""

import secrets
from collections.abc import Callable
from functools import cached_property

from flask import Request

from conversation.access import session_tokens
from conversation.keys.api_keys import Key
from conversation.refusals.codes import Refused
from logging_store.errors import NotOwner

TOKEN_HEADER, CLAIM_HEADER = "Turnlog-Session-Token", "Turnlog-Session-Claim"
_MAX_TOKENS = 20
_BROWSER = "browser"  # the author of feedback given with a publishable key, which identifies no person
_MIN_CLAIM, _MAX_CLAIM = 16, 200


class Claims:
    """A restricted caller's proof of owning sessions: its user id, or the session tokens sent with the request.

    `before_create`: set by views that may create a session; the session belongs to the caller with the same claim.
    It runs before the session is created, and raises if the caller may not create one.
    """

    def __init__(self, user_id: str | None, key: Key | None, request: Request) -> None:
        self.user_id = user_id
        self.before_create: Callable[[], None] | None = None
        self._key = key
        self._request = request

    @property
    def author(self) -> str:
        """Return the author of the caller's feedback; a caller can't name another one."""
        return self.user_id or _BROWSER

    def owner_of(self, session_id: str) -> str:
        """Return the owner that a session must have for this call to reach it. Raises `NotOwner` without its token."""
        if self.user_id is not None:
            return f"user:{self.user_id}"
        if owner := self._token_owners.get(session_id):
            return owner
        if self.before_create:
            return self._claim
        raise NotOwner(f"Append to a session with its token, in the header {TOKEN_HEADER}: it is missing or over")

    def token(self, session_id: str) -> dict[str, str]:
        """Return the fields that hand a session's token to its owner; none for users, whose own token is enough."""
        if self._key is None:
            return {}
        text, ends = session_tokens.issue(self._key, session_id, self.owner_of(session_id))
        return {"session_token": text, "session_token_expires_at": ends.isoformat()}

    @cached_property
    def _token_owners(self) -> dict[str, str]:
        """Session id → owner, from the valid session tokens of the request."""
        texts = self._request.headers.get(TOKEN_HEADER, "").split(",")
        if self._key is None or len(texts) > _MAX_TOKENS:
            raise Refused("invalid-session-token", f"{TOKEN_HEADER} may hold {_MAX_TOKENS} tokens")
        tokens = [session_tokens.read(self._key, text.strip()) for text in texts]
        return {token.session_id: token.owner for token in tokens if token}

    @cached_property
    def _claim(self) -> str:
        if self.before_create:
            self.before_create()
        claim = self._request.headers.get(CLAIM_HEADER)
        if claim is None:
            claim = secrets.token_urlsafe()  # nobody can send it again, so a retry gets no token
        elif not (_MIN_CLAIM <= len(claim) <= _MAX_CLAIM and claim.isascii() and claim.isprintable()):
            raise Refused(
                "invalid-session-token",
                f"{CLAIM_HEADER} must be {_MIN_CLAIM} to {_MAX_CLAIM} visible ASCII characters, at random",
            )
        assert self._key is not None  # noqa: S101 - a user's sessions need no claim
        return session_tokens.owner_of(self._key, claim)
