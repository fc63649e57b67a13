"""Watches the whole run for what may be in no log and in no refusal: what people said, and what opens the log.

Texts marked as canaries are planted by tests/server/test_leaks.py; keys, session tokens and users' tokens are known by
their look, whichever test makes them. It watches the records that this process logs, the problems
that applications answer, what failing commands print, and the logs of services and of their databases.
"""

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask.testing import FlaskClient, FlaskCliRunner
from werkzeug.test import TestResponse

MARK = "c4nary"
#: Planted where nothing but the record itself may have them.
PROMPT, RESPONSE, METADATA, TITLE = (f"{MARK}-{what}" for what in ("prompt", "response", "metadata", "title"))
#: Planted where nobody but the operator may have it.
PASSWORD = f"{MARK}-password"

_LEAK = re.compile(
    rf"{MARK}[\w-]*"
    r"|turnlog_[sp]k_[0-9A-Za-z]{30}"
    r"|turnlog_st_[\w.-]{8,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*",
    re.IGNORECASE,
)
_AROUND = 80  # characters told around a leak
#: What a service's first start prints, once, to whoever started it.
_FIRST_KEY = re.compile(r"export TURNLOG_KEY=turnlog_sk_[0-9A-Za-z]{30}")


@dataclass
class Watch:
    found: list[str] = field(default_factory=list)

    def look(self, where: str, text: str) -> None:
        """Note what a text holds and may not."""
        for leak in _LEAK.finditer(text):
            around = text[max(0, leak.start() - _AROUND) : leak.end() + _AROUND]
            self.found.append(f"{leak[0]} in {where}: {around!r}")

    def look_at_service(self, log: str, data_dir: Path) -> None:
        """Look through the logs of a service and of its own database."""
        self.look("a service's log", _FIRST_KEY.sub("", log))
        database = data_dir / "postgres" / "server.log"
        if database.exists():
            self.look("the embedded database's log", database.read_text(errors="replace"))

    def take(self) -> list[str]:
        """Return what was found since the last time, and forget it."""
        found, self.found = self.found, []
        return found


WATCH = Watch()


class _Handler(logging.Handler):
    """Looks at what is logged before any formatter takes something out."""

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.exc_info and record.exc_info[2]:
            # our formatter tells the way to an error and not what it says
            said += "".join(traceback.format_tb(record.exc_info[2]))
        WATCH.look(f"what {record.name} logs", said)


@contextmanager
def watching() -> Iterator[None]:
    """Watch this process."""
    handler = _Handler()
    loggers = [logging.getLogger(), logging.getLogger("turnlog")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlaskClient, "open", _looking_at_problems(FlaskClient.open))
        patch.setattr(FlaskCliRunner, "invoke", _looking_at_failures(FlaskCliRunner.invoke))
        loggers[0].addHandler(handler)
        loggers[1].setLevel(logging.INFO)  # as in production
        yield
        loggers[1].setLevel(logging.NOTSET)
        loggers[0].removeHandler(handler)


def _looking_at_problems(open_: Any) -> Any:
    def open_and_look(client: FlaskClient, *arguments: Any, **named: Any) -> TestResponse:
        answer: TestResponse = open_(client, *arguments, **named)
        if answer.mimetype == "application/problem+json":
            WATCH.look(f"a problem ({answer.status_code})", answer.get_data(as_text=True))
        return answer

    return open_and_look


def _looking_at_failures(invoke: Any) -> Any:
    def invoke_and_look(runner: FlaskCliRunner, *arguments: Any, **named: Any) -> Result:
        result: Result = invoke(runner, *arguments, **named)
        if result.exit_code:
            WATCH.look("what a failing command prints", result.output)
        return result

    return invoke_and_look
