"""Signs users of the Supabase project in to the pages by email address and password.

The service asks Supabase Auth and stores nothing: the token that it gets becomes the browser's cookie until it expires.
"""

from typing import NamedTuple, Self

import httpx
from pydantic import BaseModel, Field, ValidationError

from conversation.access.credential_errors import TokenUnverifiable
from conversation.refusals.codes import Refused
from conversation.settings import Settings

_TIMEOUT_S = 5
_MAX_LENGTH = 1000  # characters
_WAIT_S = 60  # Supabase's rate limits count by the minute or longer
_UNKNOWN = "No user of this project has this mail address and password"


class UserToken(NamedTuple):
    token: str
    lifetime_s: int


class _TokenResponse(BaseModel):
    access_token: str
    expires_in: int = Field(ge=1, le=7 * 24 * 3600)


class PasswordSignIn:
    """The sign-in of one Supabase project. `key`: any of the project's API keys."""

    def __init__(self, auth_url: str, key: str) -> None:
        self._url = f"{auth_url}/token?grant_type=password"
        self._key = key

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the project's sign-in; None if the settings have no Supabase project or accept no users' tokens."""
        if not (settings.supabase_url and settings.supabase_key and settings.turnlog_user_tokens):
            return None
        return cls(settings.supabase_auth, settings.supabase_key.get_secret_value())

    def sign_in(self, mail: str, password: str) -> UserToken:
        """Return a user's token. Raises `Refused`, or `TokenUnverifiable` in an outage."""
        if not mail or not password or len(mail) > _MAX_LENGTH or len(password) > _MAX_LENGTH:
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
            raise TokenUnverifiable from error
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            detail = "Supabase takes no more sign-ins from here for a while"
            raise Refused("rate-limited", detail, retry_after=_WAIT_S)
        if answer.is_client_error:
            raise Refused("sign-in-failed", _UNKNOWN)
        try:
            granted = _TokenResponse.model_validate_json(answer.content)
        except ValidationError:
            raise TokenUnverifiable from None
        return UserToken(granted.access_token, granted.expires_in)
