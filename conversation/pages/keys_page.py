"""A project's API keys, for its administrators. A new key is shown once, in the response to its form."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from flask import Blueprint, Response, current_app, request
from pydantic import TypeAdapter, ValidationError

from conversation import access, pages
from conversation.keys.api_keys import Key, KeyKind
from conversation.keys.callers import Scope
from conversation.keys.key_registry import KeyRegistry
from conversation.refusals import validation_messages
from conversation.refusals.codes import Refused
from conversation.settings.value_types import exact_origin
from logging_store.records.values import Name

blueprint = Blueprint("pages_keys", __name__)

#: The lifetimes to choose from, by days; the empty one lasts until the key is revoked.
LIFETIMES = {"7": "in 7 days", "30": "in 30 days", "90": "in 90 days", "365": "in a year", "": "never"}

_NAME: TypeAdapter[str] = TypeAdapter(Name)


class _InvalidFormError(Exception):
    """The form doesn't describe a valid key. The message is for the visitor."""


@blueprint.get("/keys")
@access.page("admin")
def keys() -> Response:
    return _page()


@blueprint.post("/keys")
@access.page("admin")
def create() -> Response:
    try:
        fields = _read_form()
    except _InvalidFormError as error:
        return _page(422, error=str(error))
    created = _registry().create(pages.visitor().project, **fields)
    return _page(201, created=created)


@blueprint.post("/keys/<uuid:key>/revoke")
@access.page("admin")
def revoke(key: str) -> Response:
    found = next((each for each in _registry().list(pages.visitor().project) if str(each.id) == str(key)), None)
    if found is None:
        raise Refused("not-found", "There is no such key in this project")
    _registry().revoke(found)
    return pages.redirect_after_post("pages_keys.keys", message="key-revoked")


def _page(status: int = 200, **more: Any) -> Response:
    now = datetime.now(UTC)
    found = sorted(
        _registry().list(pages.visitor().project),
        key=lambda key: (not key.is_valid_at(now), -key.created_at.timestamp()),
    )
    return pages.render(
        "keys.html",
        status,
        keys=[(key, _state(key, now)) for key in found],
        own=pages.visitor().key_id,
        kinds=get_args(KeyKind),
        scopes=get_args(Scope),
        lifetimes=LIFETIMES,
        form=request.form if "error" in more else {},
        chosen=set(request.form.getlist("scope")) if "error" in more else {"log", "read"},
        **more,
    )


def _state(key: Key, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    return "active" if key.is_valid_at(now) else "expired"


def _read_form() -> dict[str, Any]:
    """Return the arguments of `KeyRegistry.create`. Raises `_InvalidFormError`."""
    form = request.form
    kind, scopes, days = form.get("kind"), set(form.getlist("scope")), form.get("days", "")
    origins = form.get("origins", "").split()
    if kind not in get_args(KeyKind) or scopes - set(get_args(Scope)) or days not in LIFETIMES:
        raise _InvalidFormError("Choose a kind, scopes and an expiry from those that the form offers")
    if kind == "publishable":
        scopes = {"log"}  # anyone can read it in the page's source
        if not origins:
            raise _InvalidFormError("A publishable key needs the origins of the pages that may use it, one per line")
    elif origins:
        raise _InvalidFormError("A secret key can't be used by web pages: remove the origins, or choose publishable")
    if not scopes:
        raise _InvalidFormError("A key without a scope can do nothing: choose at least one")
    try:
        origins = [exact_origin(origin) for origin in origins]
        name = _NAME.validate_python(form["name"].strip()) if form.get("name", "").strip() else None
    except ValidationError as error:
        raise _InvalidFormError(f"Name: {validation_messages.sentence(error.errors()[0])}") from None
    except ValueError as error:
        raise _InvalidFormError(f"An origin {error}") from None
    ends = datetime.now(UTC) + timedelta(days=int(days)) if days else None
    return {"kind": kind, "scopes": scopes, "origins": set(origins), "name": name, "expires_at": ends}


def _registry() -> KeyRegistry:
    return KeyRegistry(current_app.extensions["turnlog_database"])
