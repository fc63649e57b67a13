"""The project's own dialogues, in ShareGPT's format.

All are made up: bookings and the like, and talks in several languages. In each a human and the model take turns, so
each of the human's turns is one interaction.
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
                lines.write(json.dumps(dialogue | {"id": f"{copy}/{dialogue['id']}"}) + "\n")
    return file


def counted(dialogues: Iterable[Dialogue]) -> tuple[int, int]:
    """Return how many sessions and interactions dialogues become."""
    turns = [[turn["from"] for turn in dialogue["conversations"]].count("human") for dialogue in dialogues]
    return len(turns), sum(turns)
