r"""Derives ids from the names that callers give, so that a record's id is known before it is written.

A caller names a session or an interaction by a UUID or by any other text. A UUID is the id. Any other text is a key,
and the id is its UUIDv5, which clients can compute in any language:

    folder id      = uuid5(NAMESPACE, project + "\n" + "folder"      + "\n" + key)
    session id     = uuid5(NAMESPACE, project + "\n" + "session"     + "\n" + key)
    interaction id = uuid5(NAMESPACE, project + "\n" + "interaction" + "\n" + session id + "\n" + key)

A session that is only named by its number in a folder, and the session of an interaction that is only named by a
composite key, have ids of their own kinds:

    session id     = uuid5(NAMESPACE, project + "\n" + "numbered-session" + "\n" + folder id + "\n" + number)
    session id     = uuid5(NAMESPACE, project + "\n" + "keyed-session"    + "\n" + key)

The interaction of a span has the same id in whichever session it is:

    interaction id = uuid5(NAMESPACE, project + "\n" + "span" + "\n" + trace id + "\n" + span id)

A composite key is written as canonical JSON (RFC 8785). No part may contain a line break, so the texts are unambiguous.

An example to test another implementation with, in the project `default`:

    {"time_slot": 5.0, "school": "Elm Street", "provider": "tutors", "date": "2026-11-23"}
    canonical JSON = {"date":"2026-11-23","provider":"tutors","school":"Elm Street","time_slot":5}
    session id     = 2031621c-bf38-5427-aa86-6ec189bd88c9
    interaction id = e90109bc-8b75-503e-a251-a11187e4005c
"""

import re
from typing import NamedTuple
from uuid import UUID, uuid5

import uuid_utils

#: uuid5(NAMESPACE_DNS, "turnlog"), written out since it must never change.
NAMESPACE = UUID("ced5a058-c036-54cd-a9be-49f37108eca6")

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Identity(NamedTuple):
    """The id of a record, and the caller's key, unless the caller gave the id itself.

    `id` is a UUID as canonical text: a UUID object would have to be converted to text for each of a thousand records.
    """

    id: str
    key: str | None


def folder(project: str, name: str | None) -> Identity:
    """Return the identity of the folder with this id or key; a new one for None."""
    return _identify(f"{project}\nfolder", name)


def numbered_session(project: str, folder_id: str, number: int) -> Identity:
    """Return the identity of a folder's session with this number."""
    return Identity(str(uuid5(NAMESPACE, f"{project}\nnumbered-session\n{folder_id}\n{number}")), None)


def keyed_session(project: str, key: str) -> Identity:
    """Return the identity of an interaction's session that is only named by a composite key, as canonical JSON."""
    return Identity(str(uuid5(NAMESPACE, f"{project}\nkeyed-session\n{key}")), None)


def session(project: str, name: str | None) -> Identity:
    """Return the identity of the session with this id or key; a new one for None."""
    return _identify(f"{project}\nsession", name)


def interaction(project: str, session_id: str, name: str | None) -> Identity:
    """Return the identity of a session's interaction with this id or key; a new one for None."""
    return _identify(f"{project}\ninteraction\n{session_id}", name)


def span_interaction(project: str, trace_id: str, span_id: str) -> str:
    """Return the id of the interaction that a span is, whose session may change."""
    return str(uuid5(NAMESPACE, f"{project}\nspan\n{trace_id}\n{span_id}"))


def trace_session(project: str, trace_id: str) -> str:
    """Return the id of the session of a trace's calls while nothing names one: that of the key `trace:TRACE_ID`."""
    return session(project, f"trace:{trace_id}").id


def _identify(scope: str, name: str | None) -> Identity:
    if name is None:
        return Identity(new_id(), None)
    if _UUID.fullmatch(name):
        return Identity(name.lower(), None)
    return Identity(str(uuid5(NAMESPACE, f"{scope}\n{name}")), name)


def new_id() -> str:
    """Return a new UUIDv7, which sorts by its time."""
    return str(uuid_utils.uuid7())
