"""Why a user's token doesn't prove who calls. Neither error holds any of the token's text."""


class InvalidToken(Exception):  # noqa: N818 - states what is
    """The token proves nothing, and will not later. `reason` is a sentence for whoever sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnfitToken(InvalidToken):
    """The issuer signed it, but it doesn't do here, or not any more: whoever sent it has guessed nothing."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


class TokenUnprovable(Exception):  # noqa: N818
    """Whether the token is good can't be told now: the issuer's keys are not to be had."""

    #: Seconds after which asking again makes sense.
    retry_after = 5
