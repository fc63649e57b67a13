"""What the writers of a self-test say: creates, whole turns, halves, retries and batches, in any order."""

import random

from logging_store.records.models import Interaction, Session

_WRITERS_OF_A_SESSION = 10  # so many meet on each session
_LARGEST_BATCH = 5  # sessions that one batch touches

Call = Session | tuple[Interaction, ...]


class Script:
    """Hands out calls and remembers what they say. `said`: session's key -> interaction's key -> all of it."""

    def __init__(self, writers: int, chance: random.Random) -> None:
        self.said: dict[str, dict[str, Interaction]] = {}
        self._writers = writers
        self._chance = chance

    def round(self, number: int) -> list[list[Call]]:
        """Return the calls of each writer of a round, in an order of its own."""
        names = [f"session-{number}-{n}" for n in range(max(2, self._writers // _WRITERS_OF_A_SESSION))]
        plan: list[list[Call]] = [[] for _ in range(self._writers)]
        for writer, mine in enumerate(plan):
            name, theirs = names[writer % len(names)], plan[(writer + 1) % self._writers]
            mine.append(Session(session_id=name, title=title(name)))
            if writer % 4 == 3:  # noqa: PLR2004 - the last of the four kinds
                touched = self._chance.sample(names, k=min(_LARGEST_BATCH, len(names)))
                batch = tuple(self._next_turn(each) for each in touched)
                mine.append(batch)
                theirs.append(batch[::-1])  # two batches over the same rows in opposite orders: what deadlocks
                continue
            turn = self._next_turn(name)
            prompt, response = turn.model_copy(update={"response": None}), turn.model_copy(update={"prompt": None})
            match writer % 4:
                case 0:  # each half once, so that whatever is swallowed is missed
                    mine += [(prompt,), (response,)]
                case 1:  # whole, while another client's retry races it
                    mine.append((turn,))
                    theirs.append((turn,))
                case 2:
                    mine += [(prompt,), (prompt,)]
                    theirs += [(response,), (turn,)]
        for calls in plan:
            self._chance.shuffle(calls)
        return plan

    def _next_turn(self, name: str) -> Interaction:
        said = self.said.setdefault(name, {})
        number, key = len(said) + 1, f"turn-{len(said) + 1}"
        said[key] = Interaction(
            session_id=name,
            interaction_id=key,
            turn=number,
            prompt=f'Prompt {number} of {name}: "é" 日本 😀\n\t\\ %s {{}}',
            response=[{"role": "assistant", "content": f"Response {number} of {name}", "score": 0.1}],
        )
        return said[key]


def title(name: str) -> str:
    return f"The title of {name}"


def spell(call: Call) -> str:
    if isinstance(call, Session):
        return f"create {call.session_id}"
    return "log " + ", ".join(f"{each.session_id} {each.interaction_id}" for each in call)
