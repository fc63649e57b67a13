"""What a client says: creates, single interactions and small batches, half of them in sessions that all clients share.

A script is decided by its seed. Names hold their client and a number, so no two scripts say different things about
the same record.
"""

import random
from collections.abc import Iterator

from tests.faults.history import Record

_SHARED_AT_ONCE = 4  # sessions that all clients write to at a time
_STEPS_OF_A_SESSION = 20
_WORDS = ("log", "Gespräch", "応答", "🙂", "two\nlines", "quote \"'", "back\\slash", "a" * 40)


def calls(client: int, seed: str) -> Iterator[list[Record]]:
    """Yield what each call of a client says, without end: the records of one request."""
    dice = random.Random(f"{seed} {client}")
    step = 0
    while True:
        age = step // _STEPS_OF_A_SESSION
        session = f"shared-{age}-{dice.randrange(_SHARED_AT_ONCE)}" if dice.random() < 0.5 else f"own-{client}-{age}"
        kind = dice.random()
        if kind < 0.2:
            # everybody who creates a shared session says the same: a contradiction would rightly be refused
            yield [Record(session, None, (f"Title of {session}",))]
        elif kind < 0.8:
            yield [_said(session, f"{client}-{step}", dice)]
        else:
            yield [_said(session, f"{client}-{step}-{n}", dice) for n in range(dice.randint(2, 6))]
        step += 1


def _said(session: str, name: str, dice: random.Random) -> Record:
    words = " ".join(dice.choices(_WORDS, k=dice.randint(1, 8)))
    return Record(session, name, (f"{name} of {session}: {words}", f"{words} :{name}"))
