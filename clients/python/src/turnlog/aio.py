"""The same for asyncio. A call writes to the spool and returns; only what may wait leaves the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from turnlog.client import Session, Turn, Turnlog
from turnlog.core import EXIT_S
from turnlog.receipts import FlushReport, Receipt

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from turnlog.client import Content, Details, Measured, SessionDetails

T = TypeVar("T")


class AsyncTurnlog:
    """A log of conversations, see `Turnlog`, which `sync_log` is: `AsyncTurnlog(url=…, key=…)`, or around one."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, around: Turnlog | None = None, **options: Any
    ) -> None:
        self.sync_log = around or Turnlog(url, key, **options)

    @classmethod
    def memory(cls, **options: Any) -> Self:
        return cls(around=Turnlog.memory(**options))

    @property
    def stored(self) -> dict[str, list[dict[str, Any]]]:
        return self.sync_log.stored

    def session(self, session_id: str | None = None, **details: Unpack[SessionDetails]) -> AsyncSession:
        return AsyncSession(self, self.sync_log.session(session_id, **details))

    async def create_session(self, session_id: str | None = None, user_id: str | None = None) -> str:
        return await self.call(lambda: self.sync_log.create_session(session_id, user_id))

    async def log_interaction(
        self, session_id: str | None = None, user_input: Any = None, ai_response: Any = None, **fields: Any
    ) -> str:
        return await self.call(lambda: self.sync_log.log_interaction(session_id, user_input, ai_response, **fields))

    async def flush(self, timeout: float = 10.0) -> FlushReport:
        return await asyncio.to_thread(self.sync_log.flush, timeout)

    def report(self) -> FlushReport:
        return self.sync_log.report()

    async def close(self, timeout: float = EXIT_S) -> FlushReport:
        return await asyncio.to_thread(self.sync_log.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, function: Callable[[], T]) -> T:
        """Call in the event loop, as a write to the spool takes microseconds; in a thread if it may wait for room."""
        return await asyncio.to_thread(function) if self.sync_log.core.block else function()


class AsyncSession:
    """One conversation, see `Session`."""

    def __init__(self, log: AsyncTurnlog, session: Session) -> None:
        self.turnlog, self.sync_session, self.id = log, session, session.id

    async def log(
        self, prompt: Content | None = None, response: Content | None = None, *, interaction_id: str | None = None,
        on_conflict: str | None = None, **details: Unpack[Details],
    ) -> Receipt:  # fmt: skip
        return await self.turnlog.call(
            lambda: self.sync_session.log(
                prompt, response, interaction_id=interaction_id, on_conflict=on_conflict, **details
            )
        )

    def turn(
        self, prompt: Content | None = None, *, interaction_id: str | None = None, **details: Unpack[Details]
    ) -> AsyncTurn:
        return AsyncTurn(self, self.sync_session.turn(prompt, interaction_id=interaction_id, **details))

    async def messages(self, messages: Iterable[Any] | str, **known: Any) -> Receipt:
        return await self.turnlog.call(lambda: self.sync_session.messages(messages, **known))

    async def feedback(self, value: bool | float | str | None, **about: Any) -> Receipt:
        return await self.turnlog.call(lambda: self.sync_session.feedback(value, **about))

    def __enter__(self) -> Self:
        self.sync_session.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.sync_session.__exit__()


class AsyncTurn:
    """An interaction that has begun, see `Turn`. `append` is no coroutine, as it only adds to a list."""

    def __init__(self, session: AsyncSession, turn: Turn) -> None:
        self.session, self.sync_turn, self.interaction_id = session, turn, turn.interaction_id
        self.append = turn.append

    @property
    def receipt(self) -> Receipt:
        return self.sync_turn.receipt

    @property
    def text(self) -> str:
        return self.sync_turn.text

    async def complete(self, response: Content | None = None, **details: Unpack[Details]) -> Receipt:
        return await self.session.turnlog.call(lambda: self.sync_turn.complete(response, **details))

    async def fail(self, error: BaseException | str, **details: Unpack[Measured]) -> Receipt:
        return await self.session.turnlog.call(lambda: self.sync_turn.fail(error, **details))

    async def abandon(self, **details: Unpack[Measured]) -> Receipt:
        return await self.session.turnlog.call(lambda: self.sync_turn.abandon(**details))

    async def fill(self, response: Content | None = None, **details: Unpack[Details]) -> Receipt:
        return await self.session.turnlog.call(lambda: self.sync_turn.fill(response, **details))

    async def feedback(self, value: bool | float | str | None, **about: Any) -> Receipt:
        return await self.session.turnlog.call(lambda: self.sync_turn.feedback(value, **about))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.sync_turn.__exit__(kind, error, traceback)
