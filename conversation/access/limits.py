"""Rate limits by caller and by address, and daily quotas for publishable keys.

A window begins with its first call and lasts as long as its rate says. With Redis, all machines share their counts;
failed authentications are counted on each machine alone, since checking them in Redis would cost every call a round
trip.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from flask import Flask, Request, current_app
from flask.globals import request_ctx
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerHour, parse

from conversation.access import addresses
from conversation.access.counter_file import CounterFile
from conversation.access.page_cookie import LIFETIME_S
from conversation.access.proxies import ForwardedAddress
from conversation.access.received import Received
from conversation.access.window_counter import WindowCounter, open_redis
from conversation.keys.callers import Caller
from conversation.refusals.codes import Refused
from conversation.settings import Settings
from logging_store.metrics.ledger import Ledger

#: In a request's environ, where a quota counts bytes: a function to call with the body's size after decompression.
COUNT_DECOMPRESSED = "turnlog.count_plain"
MAX_BODY = 16 * 1024 * 1024  # bytes, before and after decompression: a turn with the photos of a phone fits
MAX_EXPORT = 20 * 1024 * 1024  # the same of OTLP's exporters, as its specification has it


class Limits:
    """The limits of the settings and their counters, which are opened with the first count."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        file = settings.data_dir / "limits"
        self._ledger = ledger
        self._local = self._shared = WindowCounter(f"{file}", partial(CounterFile, file, clock), ledger, clock)
        store = settings.turnlog_limits_store.get_secret_value()
        if store != "memory":
            self._shared = WindowCounter("the Redis of TURNLOG_LIMITS_STORE", partial(open_redis, store), ledger, clock)
        self._refusals = _rate(settings.turnlog_refusals_per_address)
        self._per_address = _rate(settings.turnlog_rate_per_address)
        self._per_caller = {
            "secret": _rate(settings.turnlog_rate_per_key),
            "publishable": _rate(settings.turnlog_rate_per_publishable_key),
            "user": _rate(settings.turnlog_rate_per_user),
            "member": _rate(settings.turnlog_rate_per_user),
        }
        self._heavy_reads = _rate(settings.turnlog_heavy_reads_per_key)
        self._sessions = RateLimitItemPerDay(settings.turnlog_publishable_sessions_per_day)
        self._megabytes = settings.turnlog_publishable_mb_per_day
        self._bytes = RateLimitItemPerDay(self._megabytes << 20)
        self._sign_outs = RateLimitItemPerHour(1, LIFETIME_S // 3600)

    def check_address(self, address: str) -> None:
        """Raise `Refused` if too many calls from this address failed to authenticate."""
        if self._refusals and (name := addresses.counted(address)):
            wait = self._local.peek(self._refusals, "refused", name)
            if wait:
                self._refuse(
                    f"Too many calls from this address were refused ({_described(self._refusals)} may be)", wait
                )

    def count_refusal(self, address: str) -> None:
        if self._refusals and (name := addresses.counted(address)):
            self._local.hit(self._refusals, "refused", name)

    def count_call(self, caller: Caller, address: str, size: int) -> None:
        """Count a call with a body of `size` bytes. Raises `Refused` if it exceeds a limit."""
        who = _counter_name(caller)
        if who is None:
            return
        rate = self._per_caller[caller.kind]
        if caller.is_restricted and self._per_address and (name := addresses.counted(address)):
            wait = self._shared.hit(self._per_address, "address", name)
            if wait:
                self._refuse(f"Browsers at one address may make {_described(self._per_address)}", wait)
        if rate and (wait := self._shared.hit(rate, "calls", *who)):
            self._refuse(f"{_THE_CALLER[caller.kind]} may make {_described(rate)}", wait)
        self.count_bytes(caller, size)

    def count_heavy_read(self, caller: Caller) -> None:
        """Count a heavy read of a secret key. Raises `Refused` if it exceeds the limit."""
        who = _counter_name(caller)
        rate = self._heavy_reads
        if who and rate and caller.kind == "secret" and (wait := self._shared.hit(rate, "heavy", *who)):
            rule = (
                f"This key may make {rate.amount} searches, sums, exports and filtered lists a {rate.GRANULARITY.name}"
            )
            self._refuse(rule, wait)

    def count_bytes(self, caller: Caller, size: int) -> None:
        """Count bytes that a caller sends. Raises `Refused` if they exceed the day's quota."""
        who = _counter_name(caller)
        if (
            who
            and size > 0
            and caller.kind == "publishable"
            and (wait := self._shared.hit(self._bytes, "bytes", *who, cost=size))
        ):
            self._refuse(f"This key may send {self._megabytes} MB in a day", wait)

    def check_sessions(self, caller: Caller) -> None:
        """Raise `Refused` if a caller has used up the day's quota of new sessions."""
        who = _counter_name(caller)
        if who and caller.kind == "publishable" and (wait := self._shared.peek(self._sessions, "sessions", *who)):
            self._refuse(f"This key may create {self._sessions.amount} sessions in a day", wait)

    def count_session(self, caller: Caller) -> None:
        who = _counter_name(caller)
        if who and caller.kind == "publishable":
            self._shared.hit(self._sessions, "sessions", *who)

    def sign_out(self, sign_in: str) -> None:
        self._shared.hit(self._sign_outs, "signed-out", sign_in)

    def is_signed_out(self, sign_in: str) -> bool:
        return self._shared.peek(self._sign_outs, "signed-out", sign_in) is not None

    def _refuse(self, rule: str, wait: int) -> NoReturn:
        self._ledger.call("limited")
        raise Refused("rate-limited", f"{rule}; send the same call again in {wait} s", retry_after=wait)


_THE_CALLER = {"secret": "This key", "publishable": "This key", "user": "A user", "member": "A user"}


def register(app: Flask, settings: Settings) -> None:
    """Limit an app's calls, and let it trust the client addresses that its proxies report."""
    app.extensions["turnlog_limits"] = Limits(settings, app.extensions["conversation_repository"].ledger)
    if settings.turnlog_proxies:
        app.wsgi_app = ForwardedAddress(app.wsgi_app, settings.turnlog_proxies)  # type: ignore[method-assign]


def count_address() -> None:
    """Refuse a call before it is authenticated, if too many from its address failed to."""
    _limits().check_address(_address())


def count_refusal() -> None:
    """Count a call that failed to authenticate."""
    _limits().count_refusal(_address())


def count_call(caller: Caller) -> None:
    """Count an authenticated call, and refuse it if it exceeds a limit.

    The bytes that decompression adds, which are stored and spooled too, are counted when the body is read.
    """
    limits, sent = _limits(), size()
    limits.count_call(caller, _address(), sent)
    if caller.kind == "publishable":
        request_ctx.request.environ[COUNT_DECOMPRESSED] = lambda plain: limits.count_bytes(caller, plain - sent)


def bound_form(request: Request, most: int) -> None:
    """Refuse a form of more than `most` bytes before it is parsed, and let no parser read more of it."""
    request.max_content_length = most
    if size() > most:
        raise Refused("too-large", f"A form may hold {most // 1024} KB")


def count_heavy_read(caller: Caller) -> None:
    """Count a read that may take long, and refuse it if it exceeds a limit."""
    _limits().count_heavy_read(caller)


def check_sessions(caller: Caller) -> None:
    """Refuse a call that may create a session, if the caller has used up its quota of new ones."""
    _limits().check_sessions(caller)


def count_session(caller: Caller) -> None:
    """Count a session that the caller has created; call it only for new ones."""
    _limits().count_session(caller)


def sign_out(sign_in: str) -> None:
    """Remember that a sign-in has ended, for as long as its cookie would last."""
    _limits().sign_out(sign_in)


def is_signed_out(sign_in: str) -> bool:
    return _limits().is_signed_out(sign_in)


def _limits() -> Limits:
    limits: Limits = current_app.extensions["turnlog_limits"]
    return limits


def _address() -> str:
    return request_ctx.request.remote_addr or ""


def size() -> int:
    """Return the bytes of the body as it was sent; before it is read, what the client declares, up to `MAX_EXPORT`."""
    environ = request_ctx.request.environ
    body = environ.get("wsgi.input")
    if isinstance(body, Received):  # the service's own worker has read it
        return body.size
    if "HTTP_TRANSFER_ENCODING" in environ:
        return MAX_EXPORT
    return min(request_ctx.request.content_length or 0, MAX_EXPORT)


def _counter_name(caller: Caller) -> tuple[str, str] | None:
    """Return project and name under which a caller's calls are counted; None if they aren't."""
    match caller.kind:
        case "secret" | "publishable":
            return caller.project, f"key:{caller.key_id}"
        case "user" | "member":
            return caller.project, f"user:{caller.user_id}"
        case _:
            return None


def _rate(setting: str) -> RateLimitItem | None:
    return None if setting == "off" else parse(setting)


def _described(rate: RateLimitItem) -> str:
    return f"{rate.amount} calls a {rate.GRANULARITY.name}"
