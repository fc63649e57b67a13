"""`flask --app app keys …`: who may call, and what."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

import click
from flask import Blueprint, current_app

from conversation.access.api_keys import Key, KeyKind
from conversation.access.callers import Scope
from conversation.access.key_registry import KeyRegistry, NewKey
from conversation.columns import in_columns
from conversation.setting_types import exact_origin
from conversation.settings import PROJECT, Settings
from conversation.store_commands import database_at_work

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=3660)
_LIVES_ON = "24h"

blueprint = Blueprint("keys", __name__, cli_group="keys")
blueprint.cli.help = "Make, list, end and replace keys."


class _Project(click.ParamType[str]):
    name = "project"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(PROJECT, value):
            self.fail("must be 1 to 100 letters, digits, dots, dashes or underscores", param, ctx)
        return value


class _Span(click.ParamType[timedelta]):
    name = "span"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        spelled = _SPAN.fullmatch(value)
        span = timedelta(**{_UNITS[spelled[2]]: int(spelled[1])}) if spelled else timedelta()
        if not timedelta() < span <= _LONGEST:
            self.fail("must be a number and s, m, h, d or w, as in 90d, and no more than ten years", param, ctx)
        return span


class _Origin(click.ParamType[str]):
    name = "origin"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return exact_origin(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@blueprint.cli.command("create")
@click.option("--project", type=_Project(), help="Whose records it reaches; TURNLOG_PROJECT unless given.")
@click.option("--kind", type=click.Choice(get_args(KeyKind)), default="secret", show_default=True)
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(get_args(Scope)),
    help="What it may; several times for several. Secret keys: log and read unless given; publishable ones: log.",
)  # fmt: skip
@click.option("--origin", "origins", multiple=True, type=_Origin(), help="A web page that may use it (publishable).")
@click.option("--expires", type=_Span(), help="After how long it ends, as in 90d; never unless given.")
@click.option("--name", help="What you call it.")
def create(
    *,
    project: str | None,
    kind: KeyKind,
    scopes: Sequence[Scope],
    origins: Sequence[str],
    expires: timedelta | None,
    name: str | None,
) -> None:
    """Make a key and print it, once."""
    if kind == "publishable" and set(scopes) - {"log"}:
        raise click.UsageError("A publishable key may only log: everybody can read it in the page")
    if kind == "publishable" and not origins:
        raise click.UsageError("Say which pages may use it: --origin https://chat.example.com")
    if kind == "secret" and origins:
        raise click.UsageError("A secret key is of no use to a page; --kind publishable makes one that is")
    ends = datetime.now(UTC) + expires if expires else None
    chosen: Sequence[Scope] = scopes or (("log",) if kind == "publishable" else ("log", "read"))
    with database_at_work() as database:
        made = KeyRegistry(database).create(
            project or _own_project(), kind, set(chosen), origins=set(origins), name=name, expires_at=ends
        )
    _show(made)


@blueprint.cli.command("list")
@click.option("--project", type=_Project(), help="Only those of one project.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(*, project: str | None, as_json: bool) -> None:
    """List keys; what opens the log itself isn't kept and can't be shown."""
    with database_at_work() as database:
        found = KeyRegistry(database).list(project)
    if as_json:
        keys = [key.model_dump(mode="json", exclude={"token_secret", "family"}) for key in found]
        click.echo(json.dumps({"keys": keys}))
        return
    header = ["id", "key", "project", "kind", "scopes", "state", "last used", "name", "origins"]
    click.echo(in_columns([header, *(_row(key) for key in found)]))


@blueprint.cli.command("revoke")
@click.argument("key")
def revoke(*, key: str) -> None:
    """End a key, named by its id or its first characters. It stops within half a minute."""
    with database_at_work() as database:
        registry = KeyRegistry(database)
        revoked = registry.revoke(_the_one(registry, key))
    click.echo(f"{revoked.hint}… of project {revoked.project} is revoked.")


@blueprint.cli.command("rotate")
@click.argument("key")
@click.option("--overlap", type=_Span(), default=_LIVES_ON, show_default=True, help="How long both open the log.")
def rotate(*, key: str, overlap: timedelta) -> None:
    """Make a key in the place of another, which goes on for a while. Session tokens stay good."""
    with database_at_work() as database:
        registry = KeyRegistry(database)
        old = _the_one(registry, key)
        made = registry.rotate(old, overlap.total_seconds())
    if made is None:
        raise click.ClickException(f"{old.hint}… opens nothing any more: make a new key")
    _show(made)


def _show(made: NewKey) -> None:
    click.echo(made.text)
    click.echo(f"Keep it: it can't be shown again. {_told(made.key)}", err=True)


def _told(key: Key) -> str:
    ends = f", until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
    pages = f", from pages of {', '.join(sorted(key.origins))}" if key.origins else ""
    return f"It opens the project {key.project} for {', '.join(sorted(key.scopes))}{pages}{ends}."


def _row(key: Key) -> list[str]:
    now = datetime.now(UTC)
    state = "revoked" if key.revoked_at else "open" if key.is_valid_at(now) else "expired"
    if state == "open" and key.expires_at:
        state = f"until {key.expires_at:%Y-%m-%d %H:%M}"
    used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
    scopes, origins = ",".join(sorted(key.scopes)), " ".join(sorted(key.origins))
    return [str(key.id), f"{key.hint}…", key.project, key.kind, scopes, state, used, key.name or "", origins]


def _the_one(registry: KeyRegistry, name: str) -> Key:
    """Return the key that is meant by an id, or by how the key begins."""
    meant = [
        key
        for key in registry.list()
        if str(key.id) == name.lower()
        or name.startswith(key.hint)
        or (name.startswith("turnlog_") and key.hint.startswith(name))
    ]
    if len(meant) != 1:
        raise click.ClickException(
            "There is no such key; `keys list` names all" if not meant else "Several keys begin so: name it by its id"
        )
    return meant[0]


def _own_project() -> str:
    settings: Settings = current_app.extensions["turnlog_settings"]
    return settings.turnlog_project
