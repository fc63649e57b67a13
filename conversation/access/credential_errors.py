"""Why a caller isn't authenticated. No error holds any text of the credential."""

from werkzeug.exceptions import Unauthorized

from conversation.refusals.codes import Refused


class NotSignedIn(Unauthorized):
    """A page was requested without a sign-in, or after it expired."""

    description = "Sign in first"


class UnknownCredential(Refused):
    """The key or token is none of ours and never was. It may be a guess, so it counts towards the address's limit."""


class InvalidToken(Exception):  # noqa: N818 - the name says it
    """The token is not valid and won't become so. `reason`: a sentence for the caller."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WrongTokenKind(InvalidToken):
    """The issuer signed the token, but not for this use, or it has expired. It isn't counted as a guess."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


class TokenUnverifiable(Exception):  # noqa: N818
    """The token can't be verified now, since the issuer's keys are unavailable."""

    #: Seconds after which the caller may retry.
    retry_after = 5
