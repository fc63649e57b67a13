"""Writes the parts of the documentation that the code knows: settings, commands, routes, errors.

Each part stands in its page between two marks, so that the pages can be read without building anything. `make docs`
writes them (`python -m docs.reference`); a test fails while one is out of date, or where the code has no text for
something.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from annotated_types import Ge, Le
from flask import Flask
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app import create_app
from conversation import access
from conversation.api import openapi
from conversation.cli.main import command as turnlog
from conversation.refusals.codes import CODES
from conversation.settings import Settings

PAGES = Path(__file__).parent
_MARKS = re.compile(r"(<!-- generated: (\w+) by `make docs` -->).*?(<!-- end of generated -->)", re.DOTALL)

#: Heading → the beginnings of the names of its settings; the first that fits counts.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Where the log is kept": ("database_url", "supabase_", "data_dir"),
    "Server": ("port", "turnlog_host", "turnlog_workers", "turnlog_threads", "turnlog_pool_size", "turnlog_deadline_s",
               "turnlog_proxies"),
    "Keys and projects": ("turnlog_keyless", "turnlog_api_key", "turnlog_project", "turnlog_import_key"),
    "Users' tokens": ("turnlog_user_", "turnlog_jwks_", "turnlog_jwt_", "turnlog_anonymous_"),
    "Limits": ("turnlog_refusals_", "turnlog_rate_", "turnlog_heavy_", "turnlog_publishable_", "turnlog_limits_"),
    "Spool": ("turnlog_spool_",),
    "Values": ("turnlog_unstorable", "turnlog_time_zone"),
    "Redaction": ("turnlog_redact",),
    "Retention": ("turnlog_keep_",),
    "Audit of reads": ("turnlog_audit_",),
    "Prices": ("turnlog_prices",),
}  # fmt: skip
_DIALECT = {"session", "interaction", "conversation"}


class Undocumented(Exception):  # noqa: N818
    """The code says nothing about something that users see."""


def refresh(page: str) -> str:
    """Return a page with its generated parts as the code has them now."""
    return _MARKS.sub(lambda found: f"{found[1]}\n\n{_PARTS[found[2]]()}\n\n{found[3]}", page)


def settings() -> str:
    """Return tables of all settings. Raises `Undocumented` for one without a text or a group."""
    left = dict(Settings.model_fields)
    parts = []
    for title, beginnings in _GROUPS.items():
        names = [name for name in left if name.startswith(beginnings)]
        rows = [(f"`{name.upper()}`", *_default_and_text(name, left.pop(name))) for name in names]
        parts.append(f"### {title}\n\n" + _table(("variable", "default", "meaning"), rows))
    if left:
        raise Undocumented(f"_GROUPS has no heading for {', '.join(left)}")
    return "\n\n".join(parts)


def _default_and_text(name: str, field: FieldInfo) -> tuple[str, str]:
    if not field.description:
        raise Undocumented(f"the setting {name} has no text")
    default = field.get_default(call_default_factory=True)
    match default:
        case None | "" | () | {} | frozenset():
            shown = ""
        case bool():
            shown = str(default).lower()
        case SecretStr():
            shown = default.get_secret_value()
        case tuple():
            shown = ",".join(default)
        case _:
            shown = str(default)
    limits = [limit for limit in field.metadata if isinstance(limit, Ge | Le)]
    numbers = [f"{limit.ge if isinstance(limit, Ge) else limit.le:,}" for limit in limits]
    span = {0: "", 1: f" At least {''.join(numbers)}."}.get(len(numbers), f" {' to '.join(numbers)}.")
    return f"`{shown}`" if shown else "", field.description + span


def commands(group: click.Group | None = None) -> str:
    """Return a section for each command of a group, by default of Turnlog's."""
    parts = [
        "\n\n".join(_command(command, path, level=2 + len(path) - 1)) for path, command in _walk(group or turnlog, ())
    ]
    return "\n\n".join(parts)


def _walk(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name))


def _command(command: click.Command, path: Sequence[str], level: int) -> Iterator[str]:
    name = f"turnlog {' '.join(path)}"
    text = inspect.cleandoc(command.help or "").partition("\f")[0].strip()
    if not text:
        raise Undocumented(f"`{name}` has no help")
    yield f"{'#' * level} {name}"
    yield text.replace("\b\n", "")
    context = click.Context(command, info_name=name)
    if not isinstance(command, click.Group):
        yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```"
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    lines = []
    for option in options:
        record = option.get_help_record(context)
        if record is None or "--help" in option.opts:
            continue
        if not option.help:
            raise Undocumented(f"`{name} {option.opts[0]}` has no help")
        lines.append(f"- `{record[0]}`: {record[1]}")
    if lines:
        yield "\n".join(lines)
    examples: Sequence[tuple[str, str]] = getattr(command, "examples", ())
    if examples:
        yield "```sh\n" + "\n".join(f"turnlog {line}  # {what}" for line, what in examples) + "\n```"


def routes() -> str:
    """Return a section for each route of the contract, with its parameters and the fields of its body."""
    app = create_app(Settings(turnlog_api_key=SecretStr("only-to-see-which-routes-ask-for-one")))
    contract = openapi.build(app).model_dump(by_alias=True, exclude_none=True, mode="json")
    scopes = dict(_scopes(app))
    sections: dict[str, list[str]] = {}
    for path, methods in contract["paths"].items():
        for method, operation in methods.items():
            heading = f"### {method.upper()} {path}"
            scope = scopes[method.upper(), path]
            lines = [operation["summary"] if operation["summary"].endswith("?") else f"{operation['summary']}."]
            lines.append(f"Scope: `{scope}`." if scope else "Needs no key.")
            if fields := _fields(operation, contract["components"]["schemas"]):
                lines.append(f"Body: {fields}.")
            parameters = [
                f"- `{each['name']}` ({each['in']}): {each['description']}" for each in operation["parameters"]
            ]
            section = "\n\n".join([heading, " ".join(lines), *(["\n".join(parameters)] if parameters else [])])
            sections.setdefault(_area(path), []).append(section)
    return "\n\n".join(f"## {area}\n\n" + "\n\n".join(parts) for area, parts in sections.items())


def _scopes(app: Flask) -> Iterator[tuple[tuple[str, str], str | None]]:
    for rule in app.url_map.iter_rules():
        route_rule = access.rule_of(app.view_functions[rule.endpoint])
        for method in rule.methods or ():
            yield (method, re.sub(r"<\w+:(\w+)>", r"{\1}", rule.rule)), route_rule.scope if route_rule else None


def _area(path: str) -> str:
    parts = path.strip("/").split("/")
    if parts[0] == "v1":
        return "Sessions" if parts[1] == "sessions" else parts[1].capitalize()
    return "Conversation dialect" if parts[0] in _DIALECT else "Health"


def _fields(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "requestBody" not in operation:
        return ""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    snake_case = schema if "properties" in schema else schema["anyOf"][0]  # the other variant is camelCase
    required = set(snake_case.get("required", ()))
    return ", ".join(f"`{name}`" + (" (required)" if name in required else "") for name in snake_case["properties"])


def errors() -> str:
    """Return a section for each kind of problem, named by its code."""
    return "\n\n".join(
        f"### {each.code}\n\nStatus {each.status}. {each.meaning}\n\n{each.remedy}" for each in CODES.values()
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in line) + " |" for line in lines
    )


_PARTS: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "commands": commands,
    "routes": routes,
    "errors": errors,
}


def main() -> None:
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (refreshed := refresh(page)) != page:
            path.write_text(refreshed, encoding="utf-8")
            print(f"{path.relative_to(PAGES.parent)} is written anew")


if __name__ == "__main__":
    main()
