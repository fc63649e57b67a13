"""Limits a caller to sessions of its own: a page to those of its token, a signed-in user to theirs."""

from typing import Protocol

from logging_store.batches import Batch
from logging_store.errors import Invalid, NotOwner


class Ownership(Protocol):
    """Which sessions a caller reaches. `user_id`: the user who owns all of them, if one user does.

    `author`: the author of the caller's feedback; the caller reads nobody else's.
    """

    user_id: str | None

    @property
    def author(self) -> str: ...

    def owner_of(self, session_id: str) -> str:
        """Return the owner that a session must have, as turnlog.write compares it. Raises `NotOwner`."""


def add_claims(batch: Batch, ownership: Ownership) -> None:
    """Set the `claim` of every row in place.

    Raises `NotOwner` for a session that the caller can't prove to be its own, `Invalid` for another user or author.
    """
    if batch.folders:
        raise NotOwner("Sessions of folders need a secret key")
    for row in batch.rows():
        row["claim"] = ownership.owner_of(row.get("session_id") or row["id"])
        if ownership.user_id not in {None, row.get("user_id", ownership.user_id)}:
            raise Invalid("Must be the signed-in user, or left out", field="user_id")
    if any(row.get("author") != ownership.author for row in batch.feedback):
        if ownership.user_id is None:
            raise Invalid("Must be left out: a publishable key doesn't identify a user", field="author")
        raise Invalid("Must be the signed-in user, or left out", field="author")
