"""Exchanges recorded from PostgREST 14.17, called by supabase-py 2.34.1 or by plain HTTP.

`PLAIN` ones need one request, `GATEWAY` ones were answered by something in front of PostgREST, and for
`SCENES` something else has to happen at the same time. Keys are named by what they are, and made on replay.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import postgrest

from supabase import Client
from tests.postgrest.keys import sign
from tests.postgrest.standin import PostgrestStandIn

Exchange = dict[str, Any]

_RECORDED = json.loads((Path(__file__).parent.parent / "data" / "postgrest_v14.json").read_text())
PLAIN: dict[str, Exchange] = {exchange["name"]: exchange for exchange in _RECORDED["plain"]}
GATEWAY: dict[str, Exchange] = {exchange["name"]: exchange for exchange in _RECORDED["gateway"]}
SCENES: dict[str, Exchange] = {exchange["name"]: exchange for exchange in _RECORDED["scenes"]}

ROLES = ("anon", "authenticated", "service_role")
COMPARED_HEADERS = ("content-type", "proxy-status", "retry-after", "www-authenticate", "x-own")
ANOTHER_SECRET = "another secret, also longer than thirty-two bytes"  # noqa: S105 - it guards nothing
FAR_FUTURE = 1 << 33


def key_of(standin: PostgrestStandIn, label: str) -> str:
    """Make the key that a recording calls by this label; garbage stands for itself."""
    if label in ROLES:
        return standin.key(label)
    makers: dict[str, Callable[[], str]] = {
        "expired": lambda: standin.key(lifetime_s=-3600),
        "expired 10 s ago": lambda: standin.key(lifetime_s=-10),
        "not yet valid": lambda: standin.key(nbf=FAR_FUTURE, exp=FAR_FUTURE),
        "issued in the future": lambda: standin.key(iat=FAR_FUTURE, exp=FAR_FUTURE),
        "another secret": lambda: sign(ANOTHER_SECRET, "service_role"),
        "another algorithm": lambda: jwt.encode({"role": "service_role"}, ANOTHER_SECRET * 2, "HS512"),
        "unknown role": lambda: standin.key("no_such_role"),
        "role not granted": lambda: standin.key("postgres"),
        "no role": lambda: jwt.encode({"exp": FAR_FUTURE}, standin.secret, "HS256"),
    }
    return makers[label]() if label in makers else label


def replay(http: httpx.Client, standin: PostgrestStandIn, exchange: Exchange) -> dict[str, Any]:
    """Send the recorded request, after those that it builds on, and return what is compared of the answer."""
    for name in exchange.get("after", []):
        _send(http, standin, PLAIN[name])
    response = _send(http, standin, exchange)
    return {
        "status": response.status_code,
        "body": response.text,
        "headers": {name: response.headers[name] for name in COMPARED_HEADERS if name in response.headers},
        "reason": response.reason_phrase if "reason" in exchange["response"] else None,
    }


def recorded(exchange: Exchange) -> dict[str, Any]:
    """Return the recorded answer in the form of `replay`."""
    response = exchange["response"]
    usual = {"content-type": "application/json; charset=utf-8"} if response["body"] else {}
    return {
        "status": response["status"],
        "body": response["body"],
        "headers": {**usual, **response.get("headers", {})},
        "reason": response.get("reason"),
    }


def replay_by_supabase_py(client: Client, exchange: Exchange) -> dict[str, Any]:
    """Make the recorded call, and tell what came of it as the recording's `client` does."""
    name = exchange["request"]["path"].removeprefix("/rest/v1/rpc/")
    try:
        result = client.rpc(name, json.loads(exchange["request"]["body"])).execute()
    except postgrest.APIError as error:
        told = {part: getattr(error, part) for part in ("code", "message", "details", "hint")}
        return {"raised": "postgrest.APIError", **told}
    except httpx.HTTPError as error:
        return {"raised": f"httpx.{type(error).__name__}", "str": str(error)}
    data = result.data
    return {"returned": type(result).__name__, "data_type": type(data).__name__, "data": repr(data)}


def _send(http: httpx.Client, standin: PostgrestStandIn, exchange: Exchange) -> httpx.Response:
    request = exchange["request"]
    headers = {"content-type": "application/json", **request.get("headers", {})}
    if "key" in request:
        headers["authorization"] = f"Bearer {key_of(standin, request['key'])}"
    body = request["body_latin1"].encode("latin-1") if "body_latin1" in request else request.get("body", "")
    return http.request(request["method"], standin.url + request["path"], headers=headers, content=body)
