"""Dialogues to log, read from a file or generated.

The file is JSON lines of `{dialogue_id, services: [text], turns: [{speaker: "USER" | "SYSTEM", utterance}]}`. A USER
turn and the SYSTEM turn after it are one interaction; a USER turn that nobody answered is a pending one.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What breaks careless code: right-to-left, combining marks and their composed twin, emoji of several code points, a
# byte-order mark, invisible and line-breaking characters, quotes of three languages, JSON and SQL in the text.
_ODD = (
    "Größe", "e\u0301 ≠ é", "שלום עולם", "مرحبا", "日本語のテキスト", "👩‍👩‍👧‍👦🏳️‍🌈",
    "\ufeffBOM", "zero\u200bwidth", "\u2028line\u2029", "tab\tnewline\nreturn\r\n", "\u0001\u007f", "\\u0000",
    '{"json": "\\"}', "'; drop table turnlog.ai_sessions; --", "%s %(x)s", "\U0010ffff", " leading and trailing ",
    "a/b?c=d#e&f", "<script>alert(1)</script>", "İıſß", "\u202eright to left",
)  # fmt: skip
_WORDS = (
    "book",
    "a",
    "table",
    "for",
    "two",
    "please",
    "at",
    "noon",
    "the",
    "weather",
    "in",
    "San José",
    "thanks",
    "yes",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One interaction: `number` counts from 1 within its dialogue; None for a missing part."""

    number: int
    prompt: str | None
    response: str | None

    @property
    def name(self) -> str:
        return str(self.number)


@dataclass(frozen=True, slots=True)
class Dialogue:
    name: str
    services: tuple[str, ...]
    turns: tuple[Turn, ...]


def read(path: Path) -> list[Dialogue]:
    """Return a file's dialogues. Raises `ValueError` naming the line that is none, or whose name was used before."""
    dialogues: dict[str, Dialogue] = {}
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                dialogue = _dialogue(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path.name}, line {number}: not a dialogue: {error!r}") from error
            if dialogue.name in dialogues:
                raise ValueError(f"{path.name}, line {number}: {dialogue.name} was there before")
            dialogues[dialogue.name] = dialogue
    return list(dialogues.values())


def write_made_up(path: Path, *, count: int, seed: int) -> None:
    """Write a file of made-up dialogues, full of odd characters; the same for the same seed."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number in range(count):
            name = f"{number}/{chance.choice(_ODD)}".strip().translate({ord(c): "·" for c in "\t\r\n\u0001\u007f"})
            speakers = ["USER", "SYSTEM"] * chance.randint(1, 12) + ["USER"] * chance.randint(0, 1)
            turns = [{"speaker": speaker, "utterance": _utterance(chance)} for speaker in speakers]
            services = [f"Service_{chance.randint(1, 9)}", "Größe 日本"][: chance.randint(0, 2)]
            line = {"dialogue_id": name, "services": services, "turns": turns}
            file.write(json.dumps(line, ensure_ascii=chance.random() < 0.5) + "\n")


def _utterance(chance: random.Random) -> str:
    return " ".join(chance.choice(_ODD if chance.random() < 0.3 else _WORDS) for _ in range(chance.randint(1, 30)))


def _dialogue(line: dict[str, Any]) -> Dialogue:
    return Dialogue(line["dialogue_id"], tuple(line["services"]), tuple(_turns(line["turns"])))


def _turns(utterances: list[dict[str, str]]) -> Iterator[Turn]:
    number, waiting = 0, None
    for turn in utterances:
        match turn["speaker"]:
            case "USER":
                if waiting is not None:
                    yield Turn(number := number + 1, waiting, None)
                waiting = turn["utterance"]
            case "SYSTEM":
                yield Turn(number := number + 1, waiting, turn["utterance"])
                waiting = None
            case other:
                raise ValueError(f"the speaker is {other!r}, neither USER nor SYSTEM")
    if waiting is not None:
        yield Turn(number + 1, waiting, None)
