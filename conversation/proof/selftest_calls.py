"""The calls of a self-test's writers: creations, whole turns, halves, retries and batches, in any order."""

import random

from logging_store.records.models import Interaction, Session

_WRITERS_PER_SESSION = 10
_SESSIONS_PER_BATCH = 5

Call = Session | tuple[Interaction, ...]


class Script:
    """Generates the calls. `sent`: session key -> interaction key -> the complete interaction."""

    def __init__(self, writers: int, chance: random.Random) -> None:
        self.sent: dict[str, dict[str, Interaction]] = {}
        self._writers = writers
        self._chance = chance

    def round(self, number: int) -> list[list[Call]]:
        """Return the calls of a round, a shuffled list for each writer."""
        names = [f"session-{number}-{n}" for n in range(max(2, self._writers // _WRITERS_PER_SESSION))]
        plan: list[list[Call]] = [[] for _ in range(self._writers)]
        for writer, own in enumerate(plan):
            name, neighbour = names[writer % len(names)], plan[(writer + 1) % self._writers]
            own.append(Session(session_id=name, title=title(name)))
            if writer % 4 == 3:  # noqa: PLR2004 - the last of the four kinds
                touched = self._chance.sample(names, k=min(_SESSIONS_PER_BATCH, len(names)))
                batch = tuple(self._next_turn(each) for each in touched)
                own.append(batch)
                neighbour.append(batch[::-1])  # two batches over the same rows in opposite orders, which could deadlock
                continue
            turn = self._next_turn(name)
            prompt, response = turn.model_copy(update={"response": None}), turn.model_copy(update={"prompt": None})
            match writer % 4:
                case 0:  # each half once, so that a lost one is noticed
                    own += [(prompt,), (response,)]
                case 1:  # whole, in a race with another client's retry
                    own.append((turn,))
                    neighbour.append((turn,))
                case 2:
                    own += [(prompt,), (prompt,)]
                    neighbour += [(response,), (turn,)]
        for calls in plan:
            self._chance.shuffle(calls)
        return plan

    def _next_turn(self, name: str) -> Interaction:
        sent = self.sent.setdefault(name, {})
        number, key = len(sent) + 1, f"turn-{len(sent) + 1}"
        sent[key] = Interaction(
            session_id=name,
            interaction_id=key,
            turn=number,
            prompt=f'Prompt {number} of {name}: "é" 日本 😀\n\t\\ %s {{}}',
            response=[{"role": "assistant", "content": f"Response {number} of {name}", "score": 0.1}],
        )
        return sent[key]


def title(name: str) -> str:
    return f"The title of {name}"


def describe(call: Call) -> str:
    if isinstance(call, Session):
        return f"create {call.session_id}"
    return "log " + ", ".join(f"{each.session_id} {each.interaction_id}" for each in call)
