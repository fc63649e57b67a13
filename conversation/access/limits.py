"""How much one caller, and one address, may ask of the service, and what a key in browsers may take in a day.

A window begins with its first call and ends after the time that its rate names. Over Redis all machines count together;
refusals stay with the machine, since looking for them there would cost every caller a round trip.
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

from conversation.access.callers import Caller
from conversation.access.shared_windows import SharedWindows
from conversation.access.windows import Counting, open_redis
from conversation.problem_codes import Refused
from conversation.settings import Settings, is_loopback
from logging_store.metrics.ledger import Ledger

#: In a request's environ: a function that is told how many bytes the body has after decompression, if somebody counts.
COUNT_PLAIN = "turnlog.count_plain"
MAX_BODY = 4 * 1024 * 1024  # bytes, also after decompression: a batch of 1,000 long turns fits well


class Limits:
    """What the settings allow, and what has been counted of it. Nothing is opened before the first count."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        file = settings.data_dir / "limits"
        self._ledger = ledger
        self._here = self._everywhere = Counting(f"{file}", partial(SharedWindows, file, clock), ledger, clock)
        store = settings.turnlog_limits_store.get_secret_value()
        if store != "memory":
            self._everywhere = Counting("the Redis of TURNLOG_LIMITS_STORE", partial(open_redis, store), ledger, clock)
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
        """Raise `Refused` if too many calls of this address were refused."""
        if self._refusals and (name := _counted_as(address)):
            wait = self._here.look(self._refusals, "refused", name)
            if wait:
                self._refuse(f"Too many calls from this address were refused ({_said(self._refusals)} may be)", wait)

    def count_refusal(self, address: str) -> None:
        if self._refusals and (name := _counted_as(address)):
            self._here.hit(self._refusals, "refused", name)

    def count_call(self, caller: Caller, address: str, size: int) -> None:
        """Count a call with a body of `size` bytes. Raises `Refused` if it is one too many."""
        who = _name(caller)
        if who is None:
            return
        rate = self._per_caller[caller.kind]
        if caller.is_restricted and self._per_address and (name := _counted_as(address)):
            wait = self._everywhere.hit(self._per_address, "address", name)
            if wait:
                self._refuse(f"Browsers at one address may make {_said(self._per_address)}", wait)
        if rate and (wait := self._everywhere.hit(rate, "calls", *who)):
            self._refuse(f"{_THE_CALLER[caller.kind]} may make {_said(rate)}", wait)
        self.count_bytes(caller, size)

    def count_bytes(self, caller: Caller, size: int) -> None:
        """Count bytes that a caller sends. Raises `Refused` if they are too many."""
        who = _name(caller)
        if (
            who
            and size > 0
            and caller.kind == "publishable"
            and (wait := self._everywhere.hit(self._bytes, "bytes", *who, cost=size))
        ):
            self._refuse(f"This key may send {self._megabytes} MB in a day", wait)

    def check_sessions(self, caller: Caller) -> None:
        """Raise `Refused` if a caller has created as many sessions as they may."""
        who = _name(caller)
        if who and caller.kind == "publishable" and (wait := self._everywhere.look(self._sessions, "sessions", *who)):
            self._refuse(f"This key may create {self._sessions.amount} sessions in a day", wait)

    def count_session(self, caller: Caller) -> None:
        who = _name(caller)
        if who and caller.kind == "publishable":
            self._everywhere.hit(self._sessions, "sessions", *who)

    def _refuse(self, rule: str, wait: int) -> NoReturn:
        self._ledger.call("limited")
        raise Refused("rate-limited", f"{rule}; send the same call again in {wait} s", retry_after=wait)


_THE_CALLER = {"secret": "This key", "publishable": "This key", "user": "A user", "member": "A user"}


def register(app: Flask, settings: Settings) -> None:
    """Limit an app's calls, and let it see the addresses that its proxies tell of."""
    app.extensions["turnlog_limits"] = Limits(settings, app.extensions["conversation_repository"].ledger)
    if settings.turnlog_proxies:
        # of what a proxy says, only from where it was called: nobody here asks for more
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.turnlog_proxies, x_proto=0, x_host=0, x_port=0, x_prefix=0
        )


def count_address() -> None:
    """Refuse a call, before it is known who makes it, if its address was refused too often."""
    _limits().check_address(_address())


def count_refusal() -> None:
    """Count a call that didn't prove who makes it."""
    _limits().count_refusal(_address())


def count_call(caller: Caller) -> None:
    """Count a call of somebody who is known, and refuse it if it is one too many.

    What its body has more after decompression, which is what is stored and spooled, is counted when it is read.
    """
    limits, size = _limits(), _size()
    limits.count_call(caller, _address(), size)
    if caller.kind == "publishable":
        request_ctx.request.environ[COUNT_PLAIN] = lambda plain: limits.count_bytes(caller, plain - size)


def check_sessions(caller: Caller) -> None:
    """Refuse a call that may create a session, if the caller has created as many as they may."""
    _limits().check_sessions(caller)


def count_session(caller: Caller) -> None:
    """Count a session that the caller has created; a call that only finds it again, or renews its token, is none."""
    _limits().count_session(caller)


def _limits() -> Limits:
    limits: Limits = current_app.extensions["turnlog_limits"]
    return limits


def _address() -> str:
    return request_ctx.request.remote_addr or ""


def _size() -> int:
    """Return the bytes of the body as they were sent; where only the client knows, what it says, up to the most."""
    environ = request_ctx.request.environ
    body = environ.get("wsgi.input")
    if isinstance(body, io.BytesIO):  # the service's own worker has read it
        return body.getbuffer().nbytes
    if "HTTP_TRANSFER_ENCODING" in environ:
        return MAX_BODY
    return min(request_ctx.request.content_length or 0, MAX_BODY)


def _name(caller: Caller) -> tuple[str, str] | None:
    """Return by what a caller is counted: None if by nothing."""
    match caller.kind:
        case "secret" | "publishable":
            return caller.project, f"key:{caller.key_id}"
        case "user" | "member":
            return caller.project, f"user:{caller.user_id}"
        case _:
            return None


@lru_cache(maxsize=1024)
def _counted_as(address: str) -> str | None:
    """Return what an address is counted as: of IPv6 the network that one customer is given; of this machine nothing."""
    if not address or is_loopback(address):
        return None
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return _counted_as(str(ip.ipv4_mapped))
        return str(ipaddress.IPv6Network((ip.packed[:8].ljust(16, b"\0"), 64)))
    return str(ip)


def _rate(setting: str) -> RateLimitItem | None:
    return None if setting == "off" else parse(setting)


def _said(rate: RateLimitItem) -> str:
    return f"{rate.amount} calls a {rate.GRANULARITY.name}"
