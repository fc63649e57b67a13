"""The project's own dialogues, in the format of the Schema-Guided Dialogue data set.

All are made up: bookings and the like, and talks of `flask demo` in several languages. In each a USER and the SYSTEM
take turns, so each USER's turn is one interaction.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "data" / "dialogues.jsonl"

Dialogue = dict[str, Any]


def read(file: Path = FILE) -> list[Dialogue]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def write_copies(file: Path, copies: int) -> Path:
    """Write all dialogues so many times, each time under other names."""
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        for copy in range(copies):
            for dialogue in read():
                lines.write(json.dumps(dialogue | {"dialogue_id": f"{copy}/{dialogue['dialogue_id']}"}) + "\n")
    return file


def counted(dialogues: Iterable[Dialogue]) -> tuple[int, int]:
    """Return how many sessions and interactions dialogues become."""
    turns = [[turn["speaker"] for turn in dialogue["turns"]].count("USER") for dialogue in dialogues]
    return len(turns), sum(turns)
