"""Which interactions were rated how: what `--feedback rating=true` asks for."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from pydantic_core import from_json

from logging_store import operations as ops


class FeedbackFilter(NamedTuple):
    """Feedback with a name and a value. Any author's counts."""

    name: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the filter of `rating=true`: a value that is no JSON is a text. Raises `ValueError`."""
        name, sign, value = text.partition("=")
        if not name.strip() or not sign or not value:
            raise ValueError("must be a name and a value, as in rating=true")
        try:
            return cls(name, from_json(value))
        except ValueError:
            return cls(name, value)

    def matches(self, row: ops.Feedback) -> bool:
        value = row["value"]
        return (
            row["name"] == self.name and value == self.value and isinstance(value, bool) == isinstance(self.value, bool)
        )

    def of_session(self, feedback: Iterable[ops.Feedback]) -> set[str | None]:
        """Return the interactions of a session with this feedback; None is the session, and so all of them."""
        return {row["interaction_id"] for row in feedback if self.matches(row)}
