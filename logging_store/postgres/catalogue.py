"""The expected schema: the result of `turnlog.catalogue` on a freshly migrated database. `make migration` writes it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("catalogue.json")

#: kind (tables, columns, constraints, …) -> name -> definition
Catalogue = dict[str, dict[str, Any]]


@cache
def expected() -> Catalogue:
    """Return the schema that this version needs."""
    catalogue: Catalogue = json.loads(FILE.read_text(encoding="utf-8"))
    return catalogue


def tables() -> list[str]:
    """Return the names of all tables in the schema `turnlog`."""
    return list(expected()["tables"])
