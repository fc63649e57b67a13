"""gunicorn as `turnlog serve` runs it, with our application and the configuration that Turnlog ships."""

from pathlib import Path
from typing import Any

from gunicorn.app.base import Application

import conversation

_PACKAGE = Path(conversation.__file__).resolve().parent


def configuration() -> Path:
    """Return gunicorn's configuration: inside the package in a wheel, at the top of a checkout."""
    packaged = _PACKAGE / "server" / "gunicorn.conf.py"
    return packaged if packaged.exists() else _PACKAGE.parent / "gunicorn.conf.py"


class Service(Application):  # type: ignore[misc] # gunicorn has no types
    """The service. Unlike gunicorn's own command, it imports nothing from the working directory.

    `application`: creates the WSGI application in each worker. GUNICORN_CMD_ARGS overrides the configuration, as for
    gunicorn's own command.
    """

    def __init__(self, application: Any, *, prog: str) -> None:
        self._application = application
        super().__init__(prog=prog)

    def load_config(self) -> None:
        self.load_config_from_file(str(configuration()))
        overrides = self.cfg.parser().parse_args(self.cfg.get_cmd_args_from_env())
        for name, value in vars(overrides).items():
            if value is not None and name != "args":
                self.cfg.set(name.lower(), value)

    def load(self) -> Any:
        return self._application()
