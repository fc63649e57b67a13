"""Value types of settings and commands. Errors never quote a value that may hold a secret."""

import ipaddress
import re
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, SecretStr

from logging_store.postgres import conninfo

_SHORTEST_SECRET = 32  # bytes: as many as the hash of HS256 has
_RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")
_DEFAULT_PORTS = {"https": 443, "http": 80}


@lru_cache(maxsize=256)  # called for each request without a key
def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connection_string(value: object) -> object:
    """Refuse a malformed connection string without quoting it; libpq's own error would quote the password."""
    example = "postgresql://user:password@host:5432/database"
    try:
        parts = conninfo.parse(str(value))
    except ValueError:
        raise ValueError(f"must be a connection string of PostgreSQL, as in {example}") from None
    if "@" in parts.get("host", "") or not re.fullmatch(r"[\d,]*", parts.get("port", "")):
        # a part of the password was parsed as host or port, which errors name
        raise ValueError(f"needs the special characters of its password percent-encoded, as in {example}")
    return value


#: A name or an address as browsers send it: nothing that a shell or a log would take for anything else.
_HOST = re.compile(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]")


def exact_origin(text: str) -> str:
    """Return a web page's origin as browsers send it, without a final slash. Raises `ValueError`."""
    text = text.removesuffix("/")
    example = "must be an origin exactly as browsers send it, as in https://app.example.com or http://localhost:3000"
    if re.fullmatch(r"[\w.-]+(:\d+)?", text) and text not in {"null", "none"}:
        scheme = "http" if is_loopback(text.partition(":")[0]) else "https"
        raise ValueError(f"must begin with its scheme: {scheme}://{text}?")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(example) from None
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    canonical = f"{url.scheme}://{host}" + (f":{port}" if port is not None else "")
    default_port = _DEFAULT_PORTS.get(url.scheme)
    if not host or not _HOST.fullmatch(host) or canonical != text or default_port is None or port == default_port:
        raise ValueError(example)
    return text


def _origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    return frozenset(exact_origin(part.strip()) for part in value.split(",") if part.strip())


def time_zone(value: str) -> str:
    """Refuse a name that is no zone of the IANA database."""
    try:
        ZoneInfo(value)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("must be a time zone, as in Europe/Berlin or UTC") from None
    return value


def _key_set_url(value: str) -> str:
    """Refuse a URL without TLS: an attacker on the network could replace the keys."""
    url = urlsplit(value)
    safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))
    if not safe or not url.hostname or "@" in url.netloc:
        raise ValueError("must be an https URL without a password, as in https://id.example.com/.well-known/jwks.json")
    return value


def _shared_secret(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if len(secret.encode()) < _SHORTEST_SECRET or secret != secret.strip() or "-----BEGIN" in secret:
        raise ValueError(
            f"must be {_SHORTEST_SECRET} or more characters and no public key: the JWT secret of the project"
        )
    return value


def _rate(value: str) -> str:
    if value != "off" and not _RATE.fullmatch(value):
        raise ValueError("must be a number of calls and a time, as in 600/minute (second, minute, hour, day), or off")
    return value


def _limits_store(value: SecretStr) -> SecretStr:
    """Refuse a value without quoting it: a URL may hold a password."""
    store = value.get_secret_value()
    if store != "memory" and not _is_redis(store):
        raise ValueError("must be memory, or the URL of a Redis, as in redis://host:6379/0")
    return value


def _is_redis(store: str) -> bool:
    try:
        url = urlsplit(store)
        return url.scheme in {"redis", "rediss"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


Origins = Annotated[frozenset[str], BeforeValidator(_origins)]
KeySetUrl = Annotated[str, AfterValidator(_key_set_url)]
SharedSecretText = Annotated[SecretStr, AfterValidator(_shared_secret)]
Rate = Annotated[str, AfterValidator(_rate)]
LimitsStore = Annotated[SecretStr, AfterValidator(_limits_store)]


def check_user_tokens(settings: Any) -> None:
    """Raise `ValueError` if the settings of users' tokens contradict each other."""
    mode = settings.turnlog_user_tokens
    others = {
        "TURNLOG_JWKS_URL": settings.turnlog_jwks_url,
        "TURNLOG_JWT_SECRET": settings.turnlog_jwt_secret,
        "TURNLOG_JWT_ISSUER": settings.turnlog_jwt_issuer,
        "TURNLOG_ANONYMOUS_USERS": settings.turnlog_anonymous_users,
        "TURNLOG_USER_ORIGINS": settings.turnlog_user_origins,
    }
    if mode is None and (stray := next((name for name, value in others.items() if value), None)):
        raise ValueError(f"{stray} is set without TURNLOG_USER_TOKENS: set that to jwks or hs256")
    if mode == "hs256" and not settings.turnlog_jwt_secret:
        raise ValueError("TURNLOG_USER_TOKENS is hs256 without TURNLOG_JWT_SECRET: add the project's JWT secret")
    if mode == "hs256" and settings.turnlog_jwks_url:
        raise ValueError(
            "TURNLOG_USER_TOKENS is hs256 and TURNLOG_JWKS_URL is set: keep the one that verifies your tokens"
        )
    if mode == "jwks" and settings.turnlog_jwt_secret:
        raise ValueError(
            "TURNLOG_USER_TOKENS is jwks and TURNLOG_JWT_SECRET is set: keep the one that verifies your tokens"
        )
    if mode == "jwks" and not (settings.turnlog_jwks_url or settings.supabase_url):
        raise ValueError("TURNLOG_USER_TOKENS is jwks without TURNLOG_JWKS_URL: set it to the URL of the keys")
    if mode and not (settings.turnlog_jwt_issuer or settings.supabase_url):
        raise ValueError("TURNLOG_USER_TOKENS is set without TURNLOG_JWT_ISSUER: set it to the issuer of the tokens")
