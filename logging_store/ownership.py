"""Whose a session must be, where a caller only reaches their own."""

from typing import Protocol

from logging_store.batches import Batch
from logging_store.errors import Invalid, NotYours


class Ownership(Protocol):
    """Which sessions a caller reaches, who only reaches their own. `user_id`: whose all of them are, if one user's.

    `author`: whose what they say of interactions is; they read no other feedback.
    """

    user_id: str | None

    @property
    def author(self) -> str: ...

    def owner_of(self, session_id: str) -> str:
        """Return the owner that a session must have, as `turnlog.write` has it. Raises `NotYours`."""


def claim(batch: Batch, ownership: Ownership) -> None:
    """Say in each row whose its session must be. Raises `NotYours` and `Invalid` for what nobody may claim."""
    if batch.folders:
        raise NotYours("A session of a folder is made with a secret key")
    for row in batch.rows():
        row["claim"] = ownership.owner_of(row.get("session_id") or row["id"])
        if ownership.user_id not in {None, row.get("user_id", ownership.user_id)}:
            raise Invalid("Must be the user who calls, or left out", field="user_id")
    if any(row.get("author") != ownership.author for row in batch.feedback):
        if ownership.user_id is None:
            raise Invalid("Must be left out: a page's key doesn't prove who speaks", field="author")
        raise Invalid("Must be the user who calls, or left out", field="author")
