"""Downloads of a session: as JSON, as JSON lines that an import restores, and as Markdown; and images in messages.

JSON lines have all interactions, Markdown the current branch.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from flask import Blueprint, Response, jsonify, request

from conversation import access
from conversation.api import caller, interactions, responses, schemas
from conversation.api.openapi import LINES
from conversation.archive import exporting
from conversation.archive.formats import turnlog_lines
from conversation.pages import bubbles, embedded_files
from conversation.refusals.codes import Refused
from logging_store import operations as ops
from logging_store.errors import SessionErased
from logging_store.records import identity
from logging_store.repository import ConversationRepository

blueprint = Blueprint("pages_session_files", __name__)

_MARKDOWN = "text/markdown; charset=utf-8"


@blueprint.get("/sessions/<name:session>/json")
@access.page("read", restricted=True)
def raw(session: str) -> Response:
    """Return a session, or the interaction that `turn` names, as the API does."""
    log = caller.repository()
    found = log.session(session)
    if turn := request.args.get("turn"):
        return jsonify(interactions.InteractionView.arrange(interaction_named(log, found["session_id"], turn)))
    return jsonify(schemas.SessionView.arrange(found))


@blueprint.get("/sessions/<name:session>/turnlog.jsonl")
@access.page("read", restricted=True, heavy=True)
def lines(session: str) -> Response:
    log = caller.repository()
    found = log.session(session)
    participants = log.participants(found["session_id"])["participants"]
    turns = exporting.transcript(log, found["session_id"])
    said, revised = exporting.feedback(log, found["session_id"]), exporting.revisions(log, found["session_id"])
    exported = exporting.ExportItem(None, found, participants, turns, said, revised)
    return _as_download(responses.streamed(turnlog_lines.write(iter([exported])), LINES), found, "jsonl")


@blueprint.get("/sessions/<name:session>/conversation.md")
@access.page("read", restricted=True, heavy=True)
def text(session: str) -> Response:
    log = caller.repository()
    found = log.session(session)
    return _as_download(responses.streamed(_markdown(log, found), _MARKDOWN), found, "md")


@blueprint.get("/sessions/<name:session>/interactions/<name:interaction>/images/<int:number>")
@access.page("read", restricted=True)
def image(session: str, interaction: str, number: int) -> Response:
    """Return an image that a message holds; `number` counts the files of the interaction. Other files aren't served."""
    log = caller.repository()
    files = embedded_files.of_interaction(interaction_named(log, log.session(session)["session_id"], interaction))
    found = files[number] if number < len(files) else None
    if found is None or found.image_type is None:
        raise Refused("not-found", "There is no such image in this turn")
    answer = Response(found.content(), content_type=found.image_type)
    answer.headers["Content-Disposition"] = f'inline; filename="image-{number}.{found.image_type.partition("/")[2]}"'
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer


def interaction_named(log: ConversationRepository, session_id: str, name: str) -> ops.Interaction:
    """Return an interaction by its id or key. Raises `Refused`."""
    target = identity.interaction(log.project, session_id, name).id
    after = log.outline(session_id, {"limit": 1, "interaction_id": target, "branches": "current"})["after"]
    page = log.transcript(session_id, {"limit": 1, "after": after, "branches": "current", "branch": target})
    found = next((row for row in page["interactions"] if row["interaction_id"] == target), None)
    if found is None:
        raise Refused("not-found", "There is no such interaction in this session")
    return found


def _markdown(log: ConversationRepository, session: ops.Session) -> Iterator[bytes]:
    yield f"# {_one_line(_name(session))}\n".encode()
    history = bubbles.History()
    for row in _current_branch(log, session["session_id"]):
        at = row["started_at"] or row["created_at"]
        for bubble in (*bubbles.of_question(row), *history.new_bubbles(row)):
            yield f"\n## {_one_line(bubble.speaker)}, {at}\n".encode()
            for part in bubble.parts:
                if part.kind != "image":  # its description is in the text or the JSON already
                    yield (_fenced(part) if part.kind == "json" else f"\n{part.text}\n").encode()
        ids = [each["interaction_id"] for each in row["alternatives"]]
        if row["interaction_id"] in ids:
            nth = ids.index(row["interaction_id"]) + 1
            others = "the others are on other branches, which this file leaves out"
            yield f"\n*Alternative {nth} of {len(ids)}; {others}*\n".encode()
        if row["erased_at"]:
            yield f"\n*Erased {row['erased_at']}*\n".encode()
        elif row["text_expired_at"]:
            yield f"\n*Text expired {row['text_expired_at']}*\n".encode()
        if row["status"] != "completed":
            yield f"\n*{_one_line(': '.join(filter(None, (row['status'], row['error']))))}*\n".encode()


def _current_branch(log: ConversationRepository, session_id: str) -> Iterator[ops.Interaction]:
    query = ops.TranscriptOptions(limit=exporting.INTERACTIONS_AT_ONCE, branches="current")
    with suppress(SessionErased):  # it was erased meanwhile
        for page in ops.pages(partial(log.transcript, session_id), query):
            yield from page["interactions"]


def _fenced(part: bubbles.Part) -> str:
    longest = max((len(run) for run in re.findall("`+", part.text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"\n{_one_line(part.label)}:\n\n{fence}json\n{part.text}\n{fence}\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _name(session: ops.Session) -> str:
    return str(session["title"] or session["key"] or session["session_id"])


def _as_download(answer: Response, session: ops.Session, ending: str) -> Response:
    # only characters that are safe in every file system and in a header
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", _name(session)).strip("-.")[:80] or session["session_id"]
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.{ending}"'
    return answer
