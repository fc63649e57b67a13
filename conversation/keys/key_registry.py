"""Creates, lists, revokes and rotates keys through the database's own functions."""

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from conversation.keys import api_keys
from conversation.keys.api_keys import Key, KeyKind
from conversation.keys.callers import ALL_SCOPES, Scope
from logging_store import operations as ops
from logging_store.postgres.function_store import FunctionStore
from logging_store.records import identity

#: What the first start prints, with `key`, `url` and the command `turnlog` filled in.
FIRST_KEY = """
    This is your admin key. Store it now: it can't be shown again.

        export TURNLOG_KEY={key}

    Look at the log:  {url}/ (sign in with this key)
    Every call needs it:  curl {url}/v1/sessions -H "Authorization: Bearer $TURNLOG_KEY"
    Keys for your backends and web pages:  {turnlog} keys create --help
"""

_TIMEOUT_S = 10  # for one call of the database


class NewKey(NamedTuple):
    """A new key and its text, which isn't stored and can't be shown again."""

    key: Key
    text: str


class KeyRegistry:
    """The keys of all projects of a database. Methods raise `StoreError` as `FunctionStore.examine` does."""

    def __init__(self, database: FunctionStore) -> None:
        self._database = database

    def create(
        self,
        project: str,
        kind: KeyKind,
        scopes: Iterable[Scope],
        *,
        origins: Iterable[str] = (),
        name: str | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        made = self._create(project, kind, scopes, origins, name, expires_at)
        assert made is not None  # noqa: S101 - only a first key may not be made
        return made

    def create_first(self, project: str) -> NewKey | None:
        """Create a key with all scopes; return None if the database has any key already."""
        return self._create(project, "secret", ALL_SCOPES, (), "made by the first start", None, first=True)

    def list(self, project: str | None = None) -> list[Key]:
        found = self._ask(ops.KEYS, ops.KeysQuery(project=project) if project else ops.KeysQuery())
        return [Key.model_validate(row) for row in found["keys"]]

    def revoke(self, key: Key) -> Key:
        return Key.model_validate(self._ask(ops.REVOKE_KEY, ops.KeyIdQuery(id=str(key.id))))

    def rotate(self, key: Key, overlap_s: float) -> NewKey | None:
        """Replace a key, which expires after the overlap; return None if it is revoked or expired already."""
        text = api_keys.make(key.kind)
        query: ops.RotateKeyQuery = {"id": str(key.id), "overlap_s": overlap_s, "key": _identity_of(text)}
        answer = self._ask(ops.ROTATE_KEY, query)
        return NewKey(Key.model_validate(answer["key"]), text) if answer else None

    def _create(  # noqa: PLR0917 - a key has as many properties as it has
        self,
        project: str,
        kind: KeyKind,
        scopes: Iterable[Scope],
        origins: Iterable[str],
        name: str | None,
        expires_at: datetime | None,
        *,
        first: bool = False,
    ) -> NewKey | None:
        text = api_keys.make(kind)
        fields = _identity_of(text) | {
            "project": project,
            "kind": kind,
            "name": name,
            "scopes": sorted(scopes),
            "origins": sorted(origins),
            "token_secret": secrets.token_urlsafe(32),
            "expires_at": expires_at.isoformat() if expires_at else None,
        }
        answer = self._ask(ops.CREATE_KEY, ops.CreateKeyQuery(key=fields, first=first))
        return NewKey(Key.model_validate(answer), text) if answer else None

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], query: ops.Q) -> ops.A:
        return self._database.examine(operation, query, _TIMEOUT_S)


def _identity_of(text: str) -> dict[str, str | None]:
    return {"id": identity.new_id(), "digest": api_keys.digest_of(text), "hint": api_keys.hint_of(text)}
