"""Files that a command is to write."""

from pathlib import Path
from typing import Any

import click


class NewFile(click.Path):
    """A file in a folder that exists; said before anything is done, not when the first line is written."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"There is no folder {str(path.parent)!r}.", param, ctx)
        return path
