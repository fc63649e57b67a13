"""What callers use: a log, its sessions, and their turns."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from turnlog.core import EXIT_S, Core, OnRefused, Redact
from turnlog.encoding import encode, now
from turnlog.receipts import FlushReport, Receipt
from turnlog.transport import HttpTransport, Transport

if TYPE_CHECKING:
    from typing_extensions import Self, TypedDict, Unpack

    Json = Mapping[str, Any]
    Content = str | Iterable[Any]
    Time = datetime | str | float

    class Measured(TypedDict, total=False):
        """Further fields of an interaction. The service's documentation says what each means."""

        context: Iterable[Any] | None
        model: str | None
        provider: str | None
        finish_reason: str | None
        started_at: Time | None
        completed_at: Time | None
        latency_ms: float | None
        time_to_first_token_ms: float | None
        input_tokens: int | None
        output_tokens: int | None
        cached_input_tokens: int | None
        cache_write_tokens: int | None
        reasoning_tokens: int | None
        cost_usd: float | None
        participant: str | None
        reply_to: str | None
        alternative_to: str | None
        turn: int | None
        tags: Iterable[str] | None
        metadata: Json | None

    class Details(Measured, total=False):
        """The same, for calls that don't say by themselves how it ended."""

        status: str | None
        error: str | None

    class SessionDetails(TypedDict, total=False):
        """Fields of a session."""

        user_id: str | None
        title: str | None
        tags: Iterable[str] | None
        metadata: Json | None
        started_at: Time | None
        ended_at: Time | None
        folder_id: str | None
        session_number: int | None
        status: str | None


_MOST_ANNOUNCED = 10_000
_SAVE_S = 5.0
_current: ContextVar[Session | None] = ContextVar("turnlog_session", default=None)


def current_session() -> Session | None:
    """Return the session whose `with` block runs, in this task or thread."""
    return _current.get()


class Turnlog:
    """A log of conversations. Making one starts nothing; the first record does.

    `url`, `key`, `spool`: by default TURNLOG_URL, TURNLOG_KEY and TURNLOG_SPOOL. The spool is a folder of the
    application's own; without one it is in the user's state folder, one for each address and key.
    `durable`: False keeps records in memory, for machines without a disk. `fsync`: False leaves it to the system when
    records reach the disk; they still outlive the process. `block`: seconds that a call waits if the spool is full.
    `redact`: called with each record before it is kept; returns it, changed or not, or None to leave it out.
    `on_refused`: called with each record that isn't stored, and why.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, spool: str | os.PathLike[str] | None = None,
        durable: bool = True, fsync: bool = True, max_bytes: int = 256 << 20, max_memory: int = 64 << 20,
        block: float = 0.0, timeout: float = 10.0, redact: Redact | None = None, on_refused: OnRefused | None = None,
        transport: Transport | None = None,
    ) -> None:  # fmt: skip
        url, key = url or os.environ.get("TURNLOG_URL"), key or os.environ.get("TURNLOG_KEY")
        if transport is None:
            if not url:
                raise ValueError("Turnlog needs an address: Turnlog(url=…), or TURNLOG_URL")
            transport = HttpTransport(url, key, timeout)
        chosen = spool or os.environ.get("TURNLOG_SPOOL")
        folder = (Path(chosen) if chosen else _default_folder(url, key)) if durable else None
        self.core = Core(
            transport, folder, max_bytes=max_bytes, max_memory=max_memory, block=block, fsync=fsync, redact=redact,
            on_refused=on_refused,
        )  # fmt: skip
        self._announced: set[bytes] = set()

    @classmethod
    def memory(cls, *, redact: Redact | None = None, on_refused: OnRefused | None = None) -> Self:
        """Return a log for tests: without a service, and with the receipts of one. `stored` has the rows."""
        from turnlog.testing import MemoryService  # noqa: PLC0415 - only tests need it

        return cls(transport=MemoryService(), durable=False, redact=redact, on_refused=on_refused)

    @property
    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Return the interactions of each session, of a `Turnlog.memory()`."""
        self.flush()
        return self.core.transport.sessions()  # type: ignore[attr-defined,no-any-return]

    def session(self, session_id: str | None = None, **details: Unpack[SessionDetails]) -> Session:
        """Return a session. No call is made; the session exists with its first interaction."""
        return Session(self, session_id or str(uuid.uuid4()), dict(details))

    def create_session(self, session_id: str | None = None, user_id: str | None = None) -> str:
        """Log a session and return its id: the function that many loggers have."""
        session = self.session(session_id, user_id=user_id)
        session.create()
        return session.id

    def log_interaction(
        self, session_id: str | None = None, user_input: Content | None = None, ai_response: Content | None = None, *,
        interaction_id: str | None = None, user_id: str | None = None, **fields: Any,
    ) -> str:  # fmt: skip
        """Log an interaction and return its id: the function that many loggers have, with the names of its fields.

        Fields that Turnlog doesn't have go to the metadata.
        """
        details: dict[str, Any] = {"prompt": user_input, "response": ai_response}
        metadata = dict(fields.pop("metadata", None) or {})
        for name, value in fields.items():
            known = _SPELLINGS.get(name)
            if known is None or (known in details and details[known] is not None):
                metadata[name] = value
            else:
                details[known] = value
        session = self.session(session_id, user_id=user_id)
        receipt = session.log(**details, interaction_id=interaction_id, metadata=metadata or None)
        return receipt.interaction_id or ""

    def flush(self, timeout: float = 10.0) -> FlushReport:
        """Send what waits, for up to `timeout` seconds, and say what became of all records."""
        return self.core.flush(timeout)

    def report(self) -> FlushReport:
        """Say what became of the records so far, without waiting."""
        return self.core.report()

    def sync(self) -> None:
        """Return when what was logged so far is on the disk, and would survive a power cut."""
        self.core.sync()

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the records that the service refused, with its reasons."""
        return list(self.core.dead_letters())

    def retry_dead_letters(self) -> int:
        """Log the refused records again, after the cause is gone; return how many."""
        return self.core.retry_dead_letters()

    def close(self, timeout: float = EXIT_S) -> FlushReport:
        """End: what can't be sent in time is left to the next process. The end of the program does it by itself."""
        return self.core.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def announce(self, record: dict[str, Any]) -> None:
        """Log what is known of a session, unless this process did so before."""
        try:
            digest = hashlib.sha256(encode(record)).digest()
        except Exception:  # noqa: BLE001 - then it is logged each time
            digest = b""
        if digest in self._announced:
            return
        receipt = self.core.put("s", "-", record, record["session_id"])
        if digest and (receipt.outcome is None or receipt.outcome.stored):
            if len(self._announced) >= _MOST_ANNOUNCED:
                self._announced.clear()
            self._announced.add(digest)


class Session:
    """One conversation. As a `with` block it is the current session, which wrapped clients log to."""

    def __init__(self, log: Turnlog, session_id: str, details: dict[str, Any]) -> None:
        self.turnlog, self.id = log, str(session_id)
        self._details = {name: value for name, value in details.items() if value is not None}
        self._tokens: list[Token[Session | None]] = []

    def create(self) -> Receipt:
        """Log the session itself, although it has no interaction yet."""
        return self.turnlog.core.put("s", "-", {"session_id": self.id, **self._details}, self.id)

    def log(
        self, prompt: Content | None = None, response: Content | None = None, *, interaction_id: str | None = None,
        on_conflict: str | None = None, **details: Unpack[Details],
    ) -> Receipt:  # fmt: skip
        """Log an interaction. With the id of one that is there, it fills that one."""
        fields: dict[str, Any] = {"prompt": prompt, "response": response, **details}
        is_new = interaction_id is None
        stamped = {"started_at": now()} if (is_new or prompt is not None) and fields.get("started_at") is None else {}
        return self.put(str(interaction_id or uuid.uuid4()), fields, stamped, on_conflict)

    def put(
        self, interaction_id: str, fields: Mapping[str, Any], stamped: Mapping[str, Any], on_conflict: str | None = None
    ) -> Receipt:
        """Queue an interaction. `stamped`: times of this client's, without which it is stored if they contradict."""
        if self._details:
            self.turnlog.announce({"session_id": self.id, **self._details})
        record = {"session_id": self.id, "interaction_id": interaction_id, **stamped, **fields}
        rule = on_conflict or ("~" if stamped else "-")
        return self.turnlog.core.put("i", rule, record, self.id, interaction_id)

    def turn(
        self, prompt: Content | None = None, *, interaction_id: str | None = None, **details: Unpack[Details]
    ) -> Turn:
        """Begin an interaction whose response comes later. It is logged at once, as pending."""
        return Turn(self, str(interaction_id or uuid.uuid4()), {"prompt": prompt, **details})

    def messages(self, messages: Iterable[Any] | str, **known: Any) -> Receipt:
        """Log messages as an SDK has them, all or the newest. `known`: the answer's model, usage and so on."""
        listed = messages if isinstance(messages, str) else list(messages)
        return self.turnlog.core.put("m", _in_path(self.id), {"messages": listed, **self._known(known)}, self.id)

    def _known(self, known: Mapping[str, Any]) -> dict[str, Any]:
        of_session: dict[str, Any] = {
            name: self._details[name] for name in ("user_id", "title") if name in self._details
        }
        if self._details.keys() - of_session.keys():
            self.turnlog.announce({"session_id": self.id, **self._details})
        return {**of_session, **known}

    def feedback(
        self, value: bool | float | str | None, *, interaction_id: str | None = None, name: str = "rating",
        comment: str | None = None, author: str | None = None, given_at: Time | None = None,
    ) -> Receipt:  # fmt: skip
        """Give feedback on an interaction, or on the session. None takes it back."""
        record = {
            "session_id": self.id, "interaction_id": interaction_id, "name": name, "value": value, "comment": comment,
            "author": author, "given_at": given_at or now(),
        }  # fmt: skip
        return self.turnlog.core.put("f", "-", record, self.id, interaction_id)

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError):  # entered in another context
            _current.reset(self._tokens.pop())


class Turn:
    """An interaction that has begun. Left without an end it is abandoned, with what there was of the response."""

    def __init__(self, session: Session, interaction_id: str, fields: dict[str, Any]) -> None:
        self.session, self.interaction_id = session, interaction_id
        self._core = session.turnlog.core
        self._generation = self._core.generation
        self._clock = self._saved = time.monotonic()
        self._began = datetime.now(timezone.utc)
        self._first: float | None = None
        self._parts: list[str] = []
        self._ended = False
        stamped = {} if fields.get("started_at") is not None else {"started_at": self._began}
        #: The receipt of what was logged last about this turn.
        self.receipt = session.put(interaction_id, {"status": "pending", **fields}, stamped)
        self._core.open_turns.add(self)

    @property
    def text(self) -> str:
        """Return what was appended so far."""
        return "".join(self._parts)

    def append(self, text: str | None) -> None:
        """Add to the response. Every few seconds what there is of it is logged, in case this process is killed."""
        if not text:
            return
        elapsed = time.monotonic()
        if self._first is None:
            self._first = elapsed
        self._parts.append(str(text))
        if elapsed - self._saved > _SAVE_S:
            self._saved = elapsed
            self.receipt = self._put({"status": "pending", "response": self.text})

    def complete(self, response: Content | None = None, **details: Unpack[Details]) -> Receipt:
        """End with this response, or with what was appended. Called again, it adds what was left out."""
        if self._ended:
            return self.fill(response=response, **details)
        return self._end({"response": self.text if response is None else response, **details})

    def fail(self, error: BaseException | str, **details: Unpack[Measured]) -> Receipt:
        """End with an error, and with what was appended."""
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}".rstrip(": ")
        return self._end({"status": "failed", "error": said, "response": self.text or None, **details})

    def abandon(self, **details: Unpack[Measured]) -> Receipt:
        """End without an end, with what was appended: the user left, or the answer was stopped."""
        return self._end({"status": "abandoned", "response": self.text or None, **details})

    def fill(self, response: Content | None = None, **details: Unpack[Details]) -> Receipt:
        """Add what wasn't known before, such as tokens."""
        self.receipt = self._put({"response": response, **details})
        return self.receipt

    def feedback(
        self, value: bool | float | str | None, *, name: str = "rating", comment: str | None = None,
        author: str | None = None,
    ) -> Receipt:  # fmt: skip
        """Give feedback on this interaction. None takes it back."""
        return self.session.feedback(
            value, interaction_id=self.interaction_id, name=name, comment=comment, author=author
        )

    def _put(self, fields: Mapping[str, Any], stamped: Mapping[str, Any] | None = None) -> Receipt:
        return self.session.put(self.interaction_id, fields, stamped or {})

    def _end(self, fields: dict[str, Any]) -> Receipt:
        if self._ended:
            return self.receipt
        self._ended = True
        self._core.open_turns.discard(self)
        elapsed = time.monotonic() - self._clock  # the clock on the wall may jump meanwhile
        stamped: dict[str, Any] = {
            "completed_at": self._began + timedelta(seconds=elapsed), "latency_ms": round(elapsed * 1000, 3)
        }  # fmt: skip
        if self._first is not None:
            stamped["time_to_first_token_ms"] = round((self._first - self._clock) * 1000, 3)
        stamped = {name: value for name, value in stamped.items() if fields.get(name) is None}
        self.receipt = self._put(fields, stamped)
        return self.receipt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or isinstance(error, GeneratorExit | KeyboardInterrupt | SystemExit | asyncio.CancelledError):
            self.abandon()
        else:
            self.fail(error)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the interpreter's end anything may be gone
            if not self._ended and self._generation == self._core.generation:
                self._core.orphans.append(self)


def _default_folder(url: str | None, key: str | None) -> Path | None:
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # a user without a home
        return None
    # records of one key never get into the project of another
    return state / "turnlog" / hashlib.sha256(f"{url}\0{key}".encode()).hexdigest()[:16]


def _in_path(name: str) -> str:
    return quote(name, safe="")


def _spellings() -> Iterator[tuple[str, str]]:
    for names in (
        "prompt user_input question input user_message user_prompt query",
        "response ai_response answer output completion assistant_message bot_response assistant_response ai_message",
        "model model_name model_id llm llm_model ai_model", "provider model_provider llm_provider",
        "input_tokens prompt_tokens tokens_in", "output_tokens completion_tokens response_tokens tokens_out",
        "cached_input_tokens cached_tokens", "cache_write_tokens", "reasoning_tokens thinking_tokens",
        "latency_ms duration_ms response_time_ms elapsed_ms processing_time_ms", "time_to_first_token_ms ttft_ms",
        "cost_usd cost total_cost", "error error_message", "finish_reason stop_reason", "status",
        "started_at timestamp created_at", "completed_at ended_at", "participant", "reply_to parent_id",
        "alternative_to", "turn turn_number", "tags labels", "context",
    ):  # fmt: skip
        first, *others = names.split()
        yield first, first
        for other in others:
            yield other, first


_SPELLINGS = dict(_spellings())
