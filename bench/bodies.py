"""What is logged in the benchmarks: new interactions of realistic size, under new ids each time."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from uuid_utils import uuid7

#: Interactions of one session in a batch, as an import of conversations has them.
PER_SESSION = 10

#: Two of them are a prompt or a response: about 200 bytes.
SENTENCES = (
    "I want to make a restaurant reservation for 2 people at half past 11 in the morning, outside if it's warm.",
    "Confirming: I will reserve a table for 2 people at Sino in San Jose. The reservation time is 11:30 am today.",
    "What's their address? Do they have vegetarian options on their menu, and is there parking near by?",
    "Your reservation has been made. Their phone number is 408-247-8880. Is there anything else I can do?",
    "Can you find me a bus to Anaheim for the 8th of this month? I would rather not change, if it can be helped.",
    'There are three: the "early" one leaves at 7:40 and takes two hours and a quarter, with one stop, for $31.',
    "Größenordnung? Das hängt davon ab, „viel“ ist relativ 🙂, aber mehr als ein paar Hundert werden es nicht sein.",
)
_MODEL = "gpt-4o-mini"


def sessions(count: int) -> list[str]:
    """Return the sessions that single writes share; always the same ones."""
    return [str(UUID(int=n, version=4)) for n in range(count)]


def write_singles(path: Path, *, count: int, shared: Sequence[str] = ()) -> None:
    """Write a file with one request a line, each logging one interaction, of a new session if none are shared."""
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            session = random.choice(shared) if shared else str(uuid7())
            file.write(json.dumps(_interaction(session), ensure_ascii=False) + "\n")


def write_batches(path: Path, *, count: int, size: int) -> None:
    """Write a file with one request a line, each logging `size` interactions of new sessions."""
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            opened = [str(uuid7()) for _ in range(0, size, PER_SESSION)]
            items = [_interaction(opened[n // PER_SESSION]) for n in range(size)]
            file.write(json.dumps({"interactions": items}, ensure_ascii=False) + "\n")


def write_histories(path: Path, *, turns: int, sessions: int, whole: bool) -> None:
    """Write a file with one request a line: turns of new sessions, one after the other.

    `whole`: a prompt is the history, a list of messages; else only what is new, which is a text.
    """
    with path.open("w", encoding="utf-8") as file:
        for _ in range(sessions):
            history: list[dict[str, str]] = []
            session = str(uuid7())
            for _ in range(turns):
                turn = _interaction(session)
                history.append({"role": "user", "content": turn["prompt"]})
                sent = turn | {"prompt": history} if whole else turn
                file.write(json.dumps(sent, ensure_ascii=False) + "\n")
                history.append({"role": "assistant", "content": turn["response"]})


def copy_batches(*, count: int, size: int, shared: Sequence[str], project: str) -> list[bytes]:
    """Return batches in the text format of COPY; columns are `COPY_COLUMNS`."""
    return ["".join(_copy_row(project, random.choice(shared)) for _ in range(size)).encode() for _ in range(count)]


COPY_COLUMNS = "project, session_id, id, prompt, response, model, created_at"


def _text() -> str:
    return f"{random.choice(SENTENCES)} {random.choice(SENTENCES)}"


def _interaction(session: str) -> dict[str, str]:
    return {
        "session_id": session,
        "interaction_id": str(uuid7()),
        "prompt": _text(),
        "response": _text(),
        "model": _MODEL,
    }


def _copy_row(project: str, session: str) -> str:
    row = _interaction(session)
    prompt, response = (
        json.dumps(row[name], ensure_ascii=False).replace("\\", "\\\\") for name in ("prompt", "response")
    )
    return "\t".join((project, row["session_id"], row["interaction_id"], prompt, response, row["model"], "now")) + "\n"
