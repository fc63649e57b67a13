"""`turnlog keys …`: API keys and their scopes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from conversation.cli.base import Group, echo, echo_json, new_command, next_step
from conversation.cli.context import current_settings, open_database
from conversation.cli.option_types import NAME, PROJECT, SPAN, Origin

if TYPE_CHECKING:
    from conversation.keys.api_keys import Key, KeyKind
    from conversation.keys.callers import Scope
    from conversation.keys.key_registry import KeyRegistry, NewKey

#: Copies of the values in `conversation.keys`, whose import takes longer than a help text; tests/cli compares them.
KINDS = ("secret", "publishable")
SCOPES = ("log", "read", "edit", "erase", "admin")

_OVERLAP = "24h"


@click.group(
    "keys",
    cls=Group,
    help="Create, list, revoke and rotate API keys.",
    examples=[
        ("keys create --name backend", "Create a key for a backend"),
        ("keys create --kind publishable --origin https://chat.example.com", "Create a key for a web page"),
        ("keys list", "See all keys and when each was last used"),
    ],
)
def command() -> None:
    pass


@new_command(
    "create",
    examples=[
        ("keys create --name backend", "A key for a backend, which logs and reads"),
        ("keys create --kind publishable --origin https://chat.example.com", "A key for the pages of one site"),
        ("keys create --scope read --expires 90d --name dashboard", "A key that only reads, for 90 days"),
    ],
)
@click.option("--project", type=PROJECT, help="The key's project.  [default: TURNLOG_PROJECT]")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="secret",
    show_default=True,
    help="Secret for backends, publishable for web pages.",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What the key may do. Repeat for more than one.  [default: log and read; log if publishable]",
)
@click.option("--origin", "origins", multiple=True, type=Origin(), help="A site that may use a publishable key.")
@click.option("--expires", type=SPAN, help="How long it works, as in 90d.  [default: for ever]")
@click.option("--name", type=NAME, help="A name for people.")  # fmt: skip
def create(
    *,
    project: str | None,
    kind: KeyKind,
    scopes: Sequence[Scope],
    origins: Sequence[str],
    expires: timedelta | None,
    name: str | None,
) -> None:
    """Create a key and print it, once."""
    if kind == "publishable" and set(scopes) - {"log"}:
        raise click.UsageError("A publishable key may only log: anyone can read it in the page")
    if kind == "publishable" and not origins:
        raise click.UsageError("Name the sites that may use it: --origin https://chat.example.com")
    if kind == "secret" and origins:
        raise click.UsageError("A secret key doesn't belong in a page: add --kind publishable")
    from conversation.keys.key_registry import KeyRegistry

    ends = datetime.now(UTC) + expires if expires else None
    chosen: Sequence[Scope] = scopes or (("log",) if kind == "publishable" else ("log", "read"))
    with open_database() as database:
        made = KeyRegistry(database).create(
            project or current_settings().turnlog_project,
            kind, set(chosen), origins=set(origins), name=name, expires_at=ends,
        )  # fmt: skip
    _show(made)


@new_command(
    "list", examples=[("keys list", "All keys"), ("keys list --project shop --json", "One project's, as JSON")]
)
@click.option("--project", type=PROJECT, help="Only this project's keys.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(*, project: str | None, as_json: bool) -> None:
    """List keys. Secrets are never stored, so they can't be shown."""
    from conversation.cli.columns import to_columns
    from conversation.keys.key_registry import KeyRegistry

    with open_database() as database:
        found = KeyRegistry(database).list(project)
    if as_json:
        keys = [key.model_dump(mode="json", exclude={"token_secret", "family"}) for key in found]
        echo_json(json.dumps({"keys": keys}))
        return
    header = ["id", "key", "project", "kind", "scopes", "state", "last used", "name", "origins"]
    echo(*to_columns([header, *(_row(key) for key in found)]))
    if not found:
        next_step("turnlog keys create --name backend")


@new_command(
    "revoke",
    examples=[("keys revoke turnlog_sk_x7Qm", "By how the key begins, as `turnlog keys list` shows it")],
)
@click.argument("key")
def revoke(*, key: str) -> None:
    """Revoke a KEY by id or prefix. It stops working within 30 seconds."""
    from conversation.keys.key_registry import KeyRegistry

    with open_database() as database:
        registry = KeyRegistry(database)
        revoked = registry.revoke(_find(registry, key))
    echo(f"{revoked.hint}… of project {revoked.project} is revoked.")


@new_command("rotate", examples=[("keys rotate turnlog_sk_x7Qm --overlap 1h", "Replace a key within an hour")])
@click.argument("key")
@click.option("--overlap", type=SPAN, default=_OVERLAP, show_default=True, help="How long the old key keeps working.")
def rotate(*, key: str, overlap: timedelta) -> None:
    """Replace a KEY, named by id or prefix. The old one keeps working for --overlap.

    Session tokens that either of them issued stay valid.
    """
    from conversation.keys.key_registry import KeyRegistry

    with open_database() as database:
        registry = KeyRegistry(database)
        old = _find(registry, key)
        made = registry.rotate(old, overlap.total_seconds())
    if made is None:
        raise click.ClickException(f"{old.hint}… has ended already. Create a new key: turnlog keys create")
    _show(made)
    echo(f"The old key {old.hint}… keeps working until {datetime.now(UTC) + overlap:%Y-%m-%d %H:%M} UTC.", err=True)


for each in (create, show, revoke, rotate):
    command.add_command(each)


def _show(made: NewKey) -> None:
    echo(made.text)
    echo(_explain(made.key), err=True)
    url = current_settings().url
    if made.key.kind == "publishable":
        next_step(
            f'import {{ Turnlog }} from "{url}/static/turnlog.js";  // in your page',
            f'const log = await Turnlog.open({{ url: "{url}", key: "{made.text}" }});',
        )
    else:
        next_step(
            "export TURNLOG_KEY=…  # the key above",
            f'curl {url}/v1/sessions -H "Authorization: Bearer $TURNLOG_KEY"',
        )


def _explain(key: Key) -> str:
    ends = f", until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
    pages = f", from pages of {', '.join(sorted(key.origins))}" if key.origins else ""
    may = f"It opens the project {key.project} for {', '.join(sorted(key.scopes))}{pages}{ends}."
    # a publishable key is in every page's source, so it needs no safe place
    keep = "Store it now: it can't be shown again. " if key.kind == "secret" else ""
    return keep + may


def _row(key: Key) -> list[str]:
    now = datetime.now(UTC)
    state = "revoked" if key.revoked_at else "active" if key.is_valid_at(now) else "expired"
    if state == "active" and key.expires_at:
        state = f"until {key.expires_at:%Y-%m-%d %H:%M}"
    used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
    scopes, origins = ",".join(sorted(key.scopes)), " ".join(sorted(key.origins))
    return [str(key.id), f"{key.hint}…", key.project, key.kind, scopes, state, used, key.name or "", origins]


def _find(registry: KeyRegistry, name: str) -> Key:
    """Return the key with this id or prefix. Raises `click.ClickException` unless there is exactly one."""
    matching = [key for key in registry.list() if str(key.id) == name.lower() or name.startswith(key.hint)]
    if len(matching) != 1:
        raise click.ClickException(
            "There is no such key. Name one by its id, or by how it begins: turnlog keys list"
            if not matching
            else "Several keys begin like that: name one by its id, from turnlog keys list"
        )
    return matching[0]
