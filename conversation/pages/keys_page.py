"""Keys, for who administers a project: who may call, and what. A new key is shown once, in the answer to its form."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from flask import Blueprint, Response, current_app, request
from pydantic import TypeAdapter, ValidationError

from conversation import access, pages
from conversation.access.api_keys import Key, KeyKind
from conversation.access.callers import Scope
from conversation.access.key_registry import KeyRegistry
from conversation.problem_codes import Refused
from conversation.setting_types import exact_origin
from logging_store.records.values import Name

blueprint = Blueprint("pages_keys", __name__)

#: How long a key may last, by days; none: until it is revoked.
LIFETIMES = {"7": "a week", "30": "30 days", "90": "90 days", "365": "a year", "": "until it is revoked"}

_NAME: TypeAdapter[str] = TypeAdapter(Name)


class _UnfitError(Exception):
    """What the form says makes no key."""


@blueprint.get("/keys")
@access.page("admin")
def keys() -> Response:
    return _page()


@blueprint.post("/keys")
@access.page("admin")
def create() -> Response:
    try:
        stated = _stated()
    except _UnfitError as error:
        return _page(422, refusal=str(error))
    made = _registry().create(pages.visitor().project, **stated)
    return _page(201, made=made)


@blueprint.post("/keys/<uuid:key>/revoke")
@access.page("admin")
def revoke(key: str) -> Response:
    found = next((each for each in _registry().list(pages.visitor().project) if str(each.id) == str(key)), None)
    if found is None:
        raise Refused("not-found", "There is no such key in this project")
    _registry().revoke(found)
    return pages.go("pages_keys.keys", said="key-revoked")


def _page(status: int = 200, **more: Any) -> Response:
    now = datetime.now(UTC)
    found = sorted(
        _registry().list(pages.visitor().project), key=lambda key: (not key.opens_at(now), -key.created_at.timestamp())
    )
    return pages.render(
        "keys.html",
        status,
        keys=[(key, _state(key, now)) for key in found],
        own=pages.visitor().key_id,
        kinds=get_args(KeyKind),
        scopes=get_args(Scope),
        lifetimes=LIFETIMES,
        form=request.form if "refusal" in more else {},
        chosen=set(request.form.getlist("scope")) if "refusal" in more else {"log", "read"},
        **more,
    )


def _state(key: Key, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    return "open" if key.opens_at(now) else "expired"


def _stated() -> dict[str, Any]:
    """Return what the form says of a key. Raises `_UnfitError`."""
    form = request.form
    kind, scopes, days = form.get("kind"), set(form.getlist("scope")), form.get("days", "")
    origins = form.get("origins", "").split()
    if kind not in get_args(KeyKind) or scopes - set(get_args(Scope)) or days not in LIFETIMES:
        raise _UnfitError("Choose a kind, scopes and a time of those that the form has")
    if kind == "publishable":
        scopes = {"log"}  # everybody can read it in the page
        if not origins:
            raise _UnfitError("Say which pages may use a publishable key: their origins, one a line")
    elif origins:
        raise _UnfitError("A secret key is of no use to a page: leave the origins out, or make a publishable one")
    if not scopes:
        raise _UnfitError("A key without a scope opens nothing: choose one")
    try:
        origins = [exact_origin(origin) for origin in origins]
        name = _NAME.validate_python(form["name"].strip()) if form.get("name", "").strip() else None
    except ValidationError as error:
        raise _UnfitError(f"Name: {error.errors()[0]['msg']}") from None
    except ValueError as error:
        raise _UnfitError(f"An origin {error}") from None
    ends = datetime.now(UTC) + timedelta(days=int(days)) if days else None
    return {"kind": kind, "scopes": scopes, "origins": set(origins), "name": name, "expires_at": ends}


def _registry() -> KeyRegistry:
    return KeyRegistry(current_app.extensions["turnlog_database"])
