"""What the database should look like: the answer of `turnlog.catalogue` on a freshly migrated one.

`make migration` writes it anew.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("catalogue.json")

#: kind (tables, columns, constraints, …) -> name -> definition
Catalogue = dict[str, dict[str, Any]]


@cache
def expected() -> Catalogue:
    """Return the shape that this code needs."""
    catalogue: Catalogue = json.loads(FILE.read_text(encoding="utf-8"))
    return catalogue


def tables() -> list[str]:
    """Return the names of Turnlog's tables, all in the schema turnlog."""
    return list(expected()["tables"])
