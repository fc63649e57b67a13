"""Rate limits by caller and by address, and daily quotas for publishable keys.

A window begins with its first call and lasts as long as its rate says. With Redis, all machines share their counts;
failed authentications are counted on each machine alone, since checking them in Redis would cost every call a round
trip.
"""

import io
import ipaddress
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NoReturn

from flask import Flask, current_app
from flask.globals import request_ctx
from limits import RateLimitItem, RateLimitItemPerDay, parse
from werkzeug.middleware.proxy_fix import ProxyFix

from conversation.access.counter_file import CounterFile
from conversation.access.window_counter import WindowCounter, open_redis
from conversation.keys.callers import Caller
from conversation.refusals.codes import Refused
from conversation.settings import Settings, is_loopback
from logging_store.metrics.ledger import Ledger

#: In a request's environ, where a quota counts bytes: a function to call with the body's size after decompression.
COUNT_DECOMPRESSED = "turnlog.count_plain"
MAX_BODY = 4 * 1024 * 1024  # bytes, before and after decompression; a batch of 1,000 long turns is well below


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
        self._sessions = RateLimitItemPerDay(settings.turnlog_publishable_sessions_per_day)
        self._megabytes = settings.turnlog_publishable_mb_per_day
        self._bytes = RateLimitItemPerDay(self._megabytes << 20)

    def check_address(self, address: str) -> None:
        """Raise `Refused` if too many calls from this address failed to authenticate."""
        if self._refusals and (name := _address_key(address)):
            wait = self._local.peek(self._refusals, "refused", name)
            if wait:
                self._refuse(
                    f"Too many calls from this address were refused ({_described(self._refusals)} may be)", wait
                )

    def count_refusal(self, address: str) -> None:
        if self._refusals and (name := _address_key(address)):
            self._local.hit(self._refusals, "refused", name)

    def count_call(self, caller: Caller, address: str, size: int) -> None:
        """Count a call with a body of `size` bytes. Raises `Refused` if it exceeds a limit."""
        who = _counter_name(caller)
        if who is None:
            return
        rate = self._per_caller[caller.kind]
        if caller.is_restricted and self._per_address and (name := _address_key(address)):
            wait = self._shared.hit(self._per_address, "address", name)
            if wait:
                self._refuse(f"Browsers at one address may make {_described(self._per_address)}", wait)
        if rate and (wait := self._shared.hit(rate, "calls", *who)):
            self._refuse(f"{_THE_CALLER[caller.kind]} may make {_described(rate)}", wait)
        self.count_bytes(caller, size)

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

    def _refuse(self, rule: str, wait: int) -> NoReturn:
        self._ledger.call("limited")
        raise Refused("rate-limited", f"{rule}; send the same call again in {wait} s", retry_after=wait)


_THE_CALLER = {"secret": "This key", "publishable": "This key", "user": "A user", "member": "A user"}


def register(app: Flask, settings: Settings) -> None:
    """Limit an app's calls, and let it trust the client addresses that its proxies report."""
    app.extensions["turnlog_limits"] = Limits(settings, app.extensions["conversation_repository"].ledger)
    if settings.turnlog_proxies:
        # only the client's address; nothing here uses the other headers of a proxy
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.turnlog_proxies, x_proto=0, x_host=0, x_port=0, x_prefix=0
        )


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
    limits, size = _limits(), _size()
    limits.count_call(caller, _address(), size)
    if caller.kind == "publishable":
        request_ctx.request.environ[COUNT_DECOMPRESSED] = lambda plain: limits.count_bytes(caller, plain - size)


def check_sessions(caller: Caller) -> None:
    """Refuse a call that may create a session, if the caller has used up its quota of new ones."""
    _limits().check_sessions(caller)


def count_session(caller: Caller) -> None:
    """Count a session that the caller has created; call it only for new ones."""
    _limits().count_session(caller)


def _limits() -> Limits:
    limits: Limits = current_app.extensions["turnlog_limits"]
    return limits


def _address() -> str:
    return request_ctx.request.remote_addr or ""


def _size() -> int:
    """Return the bytes of the body as it was sent; before it is read, what the client declares, up to `MAX_BODY`."""
    environ = request_ctx.request.environ
    body = environ.get("wsgi.input")
    if isinstance(body, io.BytesIO):  # the service's own worker has read it
        return body.getbuffer().nbytes
    if "HTTP_TRANSFER_ENCODING" in environ:
        return MAX_BODY
    return min(request_ctx.request.content_length or 0, MAX_BODY)


def _counter_name(caller: Caller) -> tuple[str, str] | None:
    """Return project and name under which a caller's calls are counted; None if they aren't."""
    match caller.kind:
        case "secret" | "publishable":
            return caller.project, f"key:{caller.key_id}"
        case "user" | "member":
            return caller.project, f"user:{caller.user_id}"
        case _:
            return None


@lru_cache(maxsize=1024)
def _address_key(address: str) -> str | None:
    """Return the name under which an address is counted: an IPv6 address as its /64, which one customer is given.

    None for this machine, which isn't limited.
    """
    if not address or is_loopback(address):
        return None
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return _address_key(str(ip.ipv4_mapped))
        return str(ipaddress.IPv6Network((ip.packed[:8].ljust(16, b"\0"), 64)))
    return str(ip)


def _rate(setting: str) -> RateLimitItem | None:
    return None if setting == "off" else parse(setting)


def _described(rate: RateLimitItem) -> str:
    return f"{rate.amount} calls a {rate.GRANULARITY.name}"
