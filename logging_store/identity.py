r"""A record's id is known before it is written.

A caller names a session or an interaction by a UUID or by any other text. A UUID is the id. Any other text is
the caller's own key, and the id is a UUIDv5 of it, which every client can compute in any language:

    session id     = uuid5(NAMESPACE, project + "\n" + "session"     + "\n" + key)
    interaction id = uuid5(NAMESPACE, project + "\n" + "interaction" + "\n" + session id + "\n" + key)

Neither project nor session id can hold a line break, so no two names share a spelling.
"""

import re
from typing import NamedTuple
from uuid import UUID, uuid5

import uuid_utils

#: uuid5(NAMESPACE_DNS, "turnlog"), written out because it may never change.
NAMESPACE = UUID("ced5a058-c036-54cd-a9be-49f37108eca6")

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Identity(NamedTuple):
    """What a name stands for: the id, and the caller's own key if the name wasn't the id itself.

    `id` is a UUID's canonical text: nobody calculates with it, and a thousand a request would have to be spelled.
    """

    id: str
    key: str | None


def session(project: str, name: str | None) -> Identity:
    """Return the identity of the session that a caller calls `name`; a new one for None."""
    return _identify(f"{project}\nsession", name)


def interaction(project: str, session_id: str, name: str | None) -> Identity:
    """Return the identity of the interaction that a caller calls `name` within a session; a new one for None."""
    return _identify(f"{project}\ninteraction\n{session_id}", name)


def _identify(scope: str, name: str | None) -> Identity:
    if name is None:
        return Identity(new_id(), None)
    if _UUID.fullmatch(name):
        return Identity(name.lower(), None)
    return Identity(str(uuid5(NAMESPACE, f"{scope}\n{name}")), name)


def new_id() -> str:
    """Return a UUIDv7: unique, and sorted by the time it was made."""
    return str(uuid_utils.uuid7())
