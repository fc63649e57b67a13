"""Makes messages of interactions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from conversation.turns import shapes
from conversation.turns.message import Content, Message, naming
from conversation.turns.roles import ASSISTANT, USER
from logging_store import operations as ops
from logging_store.records import identity

#: Names in an interaction's metadata: the answer's own id, and what the message says it replies to.
OWN_ID, REPLIES_TO = "turnlog.response_id", "turnlog.reply_to"


@dataclass(frozen=True, slots=True)
class StoredCall:
    """An interaction of the log, as messages. `name`: its key, or its id."""

    id: str
    name: str
    prompt: Sequence[Message]
    response: Sequence[Message]
    prompt_content: Content | None
    response_content: Content | None
    reply_to: str | None
    alternative_to: str | None
    is_spooled: bool
    is_erased: bool
    is_expired: bool
    status: str

    @property
    def lacks_texts(self) -> bool:
        """Whether its texts were erased or have expired: its messages only hold their places."""
        return self.is_erased or self.is_expired

    @property
    def answer_id(self) -> str | None:
        """The id that its answer was sent with."""
        return self.response[-1].id if self.response else None


def stored_call(row: ops.Interaction) -> StoredCall:
    """Return an interaction as messages with their ids, times and what they reply to."""
    name = row["key"] or row["interaction_id"]
    replies_to = _text(row["metadata"].get(REPLIES_TO))
    asked_at, answered_at = _time(row["started_at"]), _time(row["completed_at"])
    prompt = messages_of(row["prompt"], USER)
    if prompt:
        named = naming(prompt)
        prompt = [
            replace(each, id=name, reply_to=replies_to, created_at=asked_at or each.created_at)
            if each is named
            else each
            for each in prompt
        ]
    response = messages_of(row["response"], ASSISTANT)
    if response:
        *earlier, last = response
        said_id = _text(row["metadata"].get(OWN_ID))
        # else it answers a question that isn't stored (yet)
        is_alone = not prompt and (said_id == name or row["alternative_to"] is not None)
        last = replace(
            last,
            id=said_id or (name if is_alone else None),
            reply_to=replies_to if is_alone else name,
            created_at=answered_at or last.created_at,
        )
        response = [*earlier, last]
    return StoredCall(
        row["interaction_id"],
        name,
        prompt,
        response,
        row["prompt"],
        row["response"],
        row["reply_to"],
        row["alternative_to"],
        row["spooled"],
        row["erased_at"] is not None,
        row["text_expired_at"] is not None,
        row["status"],
    )


def messages_of(content: Content | None, role: str) -> list[Message]:
    """Return the messages of a prompt (`role` user) or a response (assistant), also in an SDK's shape."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Message(role, content)]
    messages = []
    for each, found in _items(content):
        if isinstance(found, Message):
            # facts of an item have no field here: they stay what the item says
            messages.append(replace(found, facts={}, extras=found.extras | found.facts))
        else:
            messages.append(Message(str(each.get("role", role)), each.get("content"), extras=_beside(each)))
    return messages


def _items(content: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Message | Exception]]:
    for found in shapes.read_each(content):
        yield content[found.place], found


def _beside(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in {"role", "content"}}


def to_views(project: str, row: ops.Interaction) -> list[dict[str, Any]]:
    """Return an interaction's messages in order, as the API returns them: each with its id, time and `reply_to`.

    An answer without a prompt of its own comes with the question that it answers, if its row has that.
    """
    call = stored_call(row)
    asked_at = row["started_at"] or row["created_at"]
    answered_at = row["completed_at"] or asked_at
    views = [
        *_question_views(row),
        *(_view(each, each.id, asked_at, row) for each in call.prompt),
    ]
    for each in call.response:
        own_id = each.id
        if each is call.response[-1]:
            own_id = own_id or answer_id(project, row["session_id"], row["interaction_id"])
        views.append(_view(each, own_id, answered_at, row))
    return views


def _question_views(row: ops.Interaction) -> list[dict[str, Any]]:
    if (question := row.get("question")) is None:
        return []
    prompt = messages_of(question["prompt"], USER)
    named = naming(prompt)
    own = {"interaction_id": question["interaction_id"], "alternative_to": None}
    name = question["key"] or question["interaction_id"]
    return [_view(each, name if each is named else each.id, question["asked_at"], row) | own for each in prompt]


def _view(message: Message, own_id: str | None, at: str, row: ops.Interaction) -> dict[str, Any]:
    return {
        "message_id": own_id,
        **message.to_item(),
        "reply_to": message.reply_to,
        "created_at": message.created_at.isoformat() if message.created_at else at,
        "interaction_id": row["interaction_id"],
        "alternative_to": row["alternative_to"],
        "spooled": row["spooled"],
    }


def answer_id(project: str, session_id: str, interaction_id: str) -> str:
    """Return the id of an answer that was sent without one: it derives from the interaction."""
    return identity.interaction(project, session_id, f"answer to {interaction_id}").id


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
