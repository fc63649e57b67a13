"""Turns what was said into records, with times, tokens and all that can go wrong on the way."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from conversation.demo.models import MODELS, Failure, Model, failure, tokens
from conversation.demo.stating import state
from conversation.demo.talks import Line
from logging_store.records.models import RestoredInteraction

# shares of turns
_FAILS, _FAILS_IN_AN_OUTAGE = 0.015, 0.5
_BROKEN_OFF = 0.012  # somebody closed the page while the answer was still coming
_CUT = 0.008  # the answer met the limit of its tokens
_UNANSWERED = 0.004  # nobody ever told what became of it
_LOST = 0.006  # its turn is counted, and it never arrived
_TRIED_AGAIN = 0.85  # of those that failed

_OUTAGE_SLOWS = 4.0
_TOOL_MS = (60.0, 450.0)
_MILLISECOND = timedelta(milliseconds=1)


class Outage(NamedTuple):
    """A provider's bad hour."""

    provider: str
    begin: datetime
    end: datetime

    def strikes(self, model: Model, at: datetime) -> bool:
        return model.provider == self.provider and self.begin <= at < self.end


class Habits(NamedTuple):
    """What a frontend does. `system`: what it tells the model first, if it logs that.

    `pause_s`: the seconds between an answer and the next question.
    """

    models: Sequence[str]
    streams: bool = True
    counts_turns: bool = True
    own_ids: bool = True
    names_speakers: bool = False
    system: str = ""
    pause_s: float = 25.0


class Teller:
    """Tells conversations, none of which goes on after `until`."""

    def __init__(self, chance: Random, until: datetime, outage: Outage) -> None:
        self._chance = chance
        self._until = until
        self._outage = outage

    def tell(
        self, session_id: str, begin: datetime, lines: Iterable[Line], habits: Habits, speaker: str | None = None
    ) -> Iterator[RestoredInteraction]:
        """Yield the interactions of one session, in order, as far as they have happened yet."""
        model = MODELS[self._chance.choice(habits.models)]
        at, turn, context = begin, 0, tokens(habits.system)
        waiting = list(reversed(list(lines)))
        replied_to: str | None = None
        while waiting and at < self._until:
            line, turn = waiting.pop(), turn + 1
            if self._chance.random() < _LOST:
                at += self._pause(habits)
                continue
            name = str(turn) if habits.own_ids else str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
            stated = {
                "session_id": session_id,
                "interaction_id": name,
                "prompt": _prompt(line, habits.system if turn == 1 else ""),
                "model": model.name,
                "provider": model.provider,
                "started_at": at,
                "turn": turn if habits.counts_turns else None,
                "participant": speaker if habits.names_speakers else None,
                "reply_to": replied_to,
                "tags": ["retry"] if replied_to else None,
            }
            context += tokens(line.ask)
            told = self._answered(stated, line, model, context, streams=habits.streams)
            yield told
            context += tokens(line.answer)
            at = (told.completed_at or at) + self._pause(habits)
            replied_to = name if told.error and self._chance.random() < _TRIED_AGAIN else None
            if replied_to:
                waiting.append(line)

    def _answered(
        self, stated: dict[str, Any], line: Line, model: Model, context: int, *, streams: bool
    ) -> RestoredInteraction:
        begun: datetime = stated["started_at"]
        outage = self._outage.strikes(model, begun)
        slower = self._chance.lognormvariate(0, 0.35) * (_OUTAGE_SLOWS if outage else 1)
        if self._chance.random() < (_FAILS_IN_AN_OUTAGE if outage else _FAILS):
            return self._finished(stated, begun, failed=failure(self._chance, outage=outage))
        first_ms = model.first_token_ms * slower + (self._chance.uniform(*_TOOL_MS) if line.tool else 0)
        answer, status, stop = self._ending(line, model)
        output_tokens = tokens(answer) + (tokens(line.tool.arguments) if line.tool else 0)
        latency_ms = first_ms + output_tokens / model.tokens_per_s * 1000 * slower
        if not status or begun + timedelta(milliseconds=latency_ms) > self._until:
            return state(RestoredInteraction, **stated, created_at=begun)
        stated |= {
            "response": _response(line, answer),
            "status": status,
            "finish_reason": stop,
            "time_to_first_token_ms": round(first_ms, 1) if streams else None,
            "input_tokens": context,
            "output_tokens": output_tokens,
            "cost_usd": model.cost_usd(context, output_tokens),
        }
        return self._finished(stated, begun, latency_ms=latency_ms)

    def _ending(self, line: Line, model: Model) -> tuple[str, str | None, str | None]:
        """Return as much of the answer as came, the status, None if nobody told, and why the model stopped."""
        fate = self._chance.random()
        done, cut, _ = model.stops
        if fate < _BROKEN_OFF:
            return line.answer[: max(len(line.answer) // 3, 1)], "abandoned", None
        if fate < _BROKEN_OFF + _CUT:
            return line.answer[: max(len(line.answer) * 2 // 3, 1)], "completed", cut
        if fate < _BROKEN_OFF + _CUT + _UNANSWERED:
            return line.answer, None, None
        return line.answer, "completed", done

    def _finished(
        self, stated: dict[str, Any], begun: datetime, *, latency_ms: float = 0, failed: Failure | None = None
    ) -> RestoredInteraction:
        if failed:
            latency_ms = self._chance.uniform(*failed.after_ms)
            stated |= {"status": "failed", "error": failed.error, "finish_reason": failed.finish_reason}
        completed = begun + timedelta(milliseconds=round(latency_ms))
        if completed > self._until:  # not known yet
            stated = {name: stated[name] for name in stated if name not in {"status", "error", "finish_reason"}}
            return state(RestoredInteraction, **stated, created_at=begun)
        arrived = min(completed + self._chance.randrange(5, 90) * _MILLISECOND, self._until)
        return state(
            RestoredInteraction, **stated, completed_at=completed, latency_ms=round(latency_ms, 1), created_at=arrived
        )

    def _pause(self, habits: Habits) -> timedelta:
        return timedelta(seconds=round(habits.pause_s * self._chance.lognormvariate(0, 0.7), 3))


def _prompt(line: Line, system: str) -> str | list[dict[str, Any]]:
    asked: Any = line.ask
    if line.photo:
        asked = [{"type": "text", "text": line.ask}, {"type": "image_url", "image_url": {"url": line.photo}}]
    if not system:
        return line.ask if asked is line.ask else [{"role": "user", "content": asked}]
    return [{"role": "system", "content": system}, {"role": "user", "content": asked}]


def _response(line: Line, answer: str) -> str | list[dict[str, Any]]:
    if line.tool is None:
        return answer
    call = {"id": "call_1", "type": "function"}
    call |= {"function": {"name": line.tool.name, "arguments": line.tool.arguments}}  # type: ignore[dict-item]
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": line.tool.name, "content": line.tool.result},
        {"role": "assistant", "content": answer},
    ]
