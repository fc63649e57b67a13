"""Signing in to the pages as a user of the Supabase project, by mail address and password.

The service asks Supabase Auth and keeps nothing: the token that it gets is the browser's cookie, as long as it is good.
"""

from typing import NamedTuple, Self

import httpx
from pydantic import BaseModel, Field, ValidationError

from conversation.access.token_errors import TokenUnprovable
from conversation.problem_codes import Refused
from conversation.settings import Settings

_TIMEOUT_S = 5
_LONGEST = 1000  # characters
_WAIT_S = 60  # what Supabase limits, it limits by the minute or longer
_UNKNOWN = "No user of this project has this mail address and password"


class SignedInUser(NamedTuple):
    token: str
    lifetime_s: int


class _Answer(BaseModel):
    access_token: str
    expires_in: int = Field(ge=1, le=7 * 24 * 3600)


class UsersSignIn:
    """The sign-in of one project. `key` is any of its keys."""

    def __init__(self, auth_url: str, key: str) -> None:
        self._url = f"{auth_url}/token?grant_type=password"
        self._key = key

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the project's sign-in; None where the settings name none, or take no users' tokens."""
        if not (settings.supabase_url and settings.supabase_key and settings.turnlog_user_tokens):
            return None
        return cls(settings.supabase_auth, settings.supabase_key.get_secret_value())

    def sign_in(self, mail: str, password: str) -> SignedInUser:
        """Return a user's token. Raises `Refused`, or `TokenUnprovable` if nobody can tell."""
        if not mail or not password or len(mail) > _LONGEST or len(password) > _LONGEST:
            raise Refused("sign-in-failed", _UNKNOWN)
        try:
            answer = httpx.post(
                self._url,
                headers={"apikey": self._key},
                json={"email": mail, "password": password},
                timeout=_TIMEOUT_S,
                follow_redirects=False,
            )
        except httpx.HTTPError as error:
            raise TokenUnprovable from error
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            detail = "Supabase takes no more sign-ins from here for a while"
            raise Refused("rate-limited", detail, retry_after=_WAIT_S)
        if answer.is_client_error:
            raise Refused("sign-in-failed", _UNKNOWN)
        try:
            given = _Answer.model_validate_json(answer.content)
        except ValidationError:
            raise TokenUnprovable from None
        return SignedInUser(given.access_token, given.expires_in)
