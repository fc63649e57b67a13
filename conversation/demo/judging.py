"""What people of the made-up week say of the answers: thumbs, a score, a note; and what reviewers say later."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from conversation.demo.stating import state
from logging_store.records.models import RestoredFeedback, RestoredInteraction

# shares of answers
_THUMBS, _SCORES, _NOTES, _REVIEWED = 0.12, 0.05, 0.25, 0.02
_HAPPY, _HAPPY_WITH_A_BROKEN_ANSWER = 0.82, 0.15
_REVIEWERS = ("reviewer.kim", "reviewer.osei")
_VERDICTS = ("correct", "correct", "incomplete", "wrong")
_GOOD_SCORES, _BAD_SCORES = (3, 4, 4, 5, 5), (1, 1, 2, 3)
_GOOD = (
    "Exactly what I needed.",
    "Quick and clear, thanks!",
    "很有帮助",
    "ممتاز، شكرًا",
    "助かりました",
    "👍🏽",
    "Nice table.",
)
_BAD = (
    "That wasn't my question.",
    "Too long.",
    "It stopped in the middle of a sentence.",
    "답변이 틀렸어요",
    "Wrong order.",
    "😕",
)


class Judges:
    """Says something of some answers, and nothing after `until`."""

    def __init__(self, chance: Random, until: datetime) -> None:
        self._chance = chance
        self._until = until

    def judge(self, told: RestoredInteraction, user: str | None) -> Iterator[RestoredFeedback]:
        """Yield the feedback of one interaction, if there is any."""
        if told.completed_at is None or told.status == "failed":
            return
        whole = told.status == "completed" and told.finish_reason not in {"length", "max_tokens", "MAX_TOKENS"}
        happy = self._chance.random() < (_HAPPY if whole else _HAPPY_WITH_A_BROKEN_ANSWER)
        author = user or "a visitor"
        soon = told.completed_at + timedelta(seconds=self._chance.randrange(2, 120))
        if self._chance.random() < _THUMBS:
            yield from self._given(told, author, "rating", happy, soon)
            if self._chance.random() < _NOTES:
                yield from self._given(told, author, "note", self._chance.choice(_GOOD if happy else _BAD), soon)
        if self._chance.random() < _SCORES:
            yield from self._given(
                told, author, "score", self._chance.choice(_GOOD_SCORES if happy else _BAD_SCORES), soon
            )
        if self._chance.random() < _REVIEWED:
            later = soon + timedelta(hours=self._chance.randrange(4, 30))
            verdict, reviewer = self._chance.choice(_VERDICTS), self._chance.choice(_REVIEWERS)
            yield from self._given(told, reviewer, "accuracy", verdict, later)

    def _given(
        self, told: RestoredInteraction, author: str, name: str, value: bool | int | str, at: datetime
    ) -> Iterator[RestoredFeedback]:
        if at < self._until:
            yield state(
                RestoredFeedback,
                session_id=told.session_id,
                interaction_id=told.interaction_id,
                author=author,
                name=name,
                value=value,
                given_at=at,
                created_at=at,
            )
