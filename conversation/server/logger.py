"""The service's log: one line for each event, without credentials and without content of conversations.

gunicorn, Turnlog and the libraries log through one formatter. It escapes line breaks and terminal control characters,
removes what looks like a key, a token or a password, and logs an unexpected error with its stack but without its
message, which may quote anything.
"""

import logging
import re
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from gunicorn import glogging

from conversation import printable
from conversation.refusals import MessageThrottle

#: The first characters of a key stay, as in lists of keys, so that people can tell keys apart.
_SECRETS = re.compile(
    r"(?P<key>turnlog_[sp]k_[0-9A-Za-z]{4})[0-9A-Za-z]+"
    r"|(?P<token>turnlog_st_)[\w.-]+"
    r"|(?P<jwt>eyJ)[\w-]+(?:\.[\w-]*)+"
    r"|(?P<bearer>\b(?:bearer|basic) +)(?!turnlog_)[\w.~+/=-]{8,}"
    r"|(?P<url>://[^\s/:@]*:)[^\s/]+(?=@)"
    r"|(?P<word>\b(?:password|passwd|pwd|secret|api_?key)['\"]?\s*[=:]\s*['\"]?)[^\s'\"&,;]+",
    re.IGNORECASE,
)
_REDACTED = "…"
MAX_RECORD = 8000  # bytes; what a caller sends could make a record of any length
_CONTINUED = "    | "  # marks a line that continues the one above

_ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """Formats each record as one line, and the stack of an unexpected error as marked lines below it."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        if record.stack_info:
            lines += record.stack_info.splitlines()
        # also before the escaping, which may make ten characters of one
        shown = f"\n{_CONTINUED}".join(one_line(line[:MAX_RECORD]) for line in lines)
        if len(shown) * 4 > MAX_RECORD and len(in_bytes := shown.encode()) > MAX_RECORD:
            return in_bytes[:MAX_RECORD].decode(errors="ignore") + _REDACTED
        return shown

    def formatException(self, ei: _ErrorInfo) -> str:  # noqa: N802 - the standard library's name
        return "\n".join(_stack_of(ei[1])) if ei[1] else ""


class Logger(glogging.Logger):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's logging with our formatter, for Turnlog and its libraries as well."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            plain = handler.formatter
            if type(plain) is logging.Formatter:  # leave a formatter that the operator configured
                handler.setFormatter(LineFormatter(plain._fmt, plain.datefmt))  # noqa: SLF001 - there is no other way to ask
        ours = logging.getLogger("turnlog")
        ours.handlers, ours.propagate = self.error_log.handlers, False
        ours.setLevel(self.error_log.level)
        if not (cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json):
            # without a handler, Python would print the bare message
            logging.getLogger().handlers = self.error_log.handlers
        # while the database is away the pool says so each second, in every worker
        pool = logging.getLogger("psycopg.pool")
        if not any(isinstance(each, ThrottleFilter) for each in pool.filters):
            pool.addFilter(ThrottleFilter())


class ThrottleFilter(logging.Filter):
    """Logs a repeated message once a minute, with the number of suppressed ones."""

    def __init__(self, throttle: MessageThrottle | None = None) -> None:
        super().__init__()
        self._throttle = throttle or MessageThrottle()

    def filter(self, record: logging.LogRecord) -> bool:
        suppressed = self._throttle.suppressed(str(record.msg))
        if suppressed:
            record.msg = f"{record.msg} ({suppressed:,} more since the last such line)"
        return suppressed is not None


def one_line(text: str) -> str:
    """Return a text as one line, without credentials and control characters."""
    return printable.one_line(_SECRETS.sub(_hide, text))


def _hide(found: re.Match[str]) -> str:
    return f"{found[found.lastgroup or 0]}{_REDACTED}"


def _stack_of(error: BaseException) -> Iterator[str]:
    """Yield the types and stacks of an error and its causes, without their messages."""
    seen = set()
    while True:
        seen.add(id(error))
        yield f"{type(error).__module__}.{type(error).__qualname__}"
        yield from "".join(traceback.format_tb(error.__traceback__)).splitlines()
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen:
            return
        yield "caused by"
        error = cause
