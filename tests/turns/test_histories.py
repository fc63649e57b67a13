"""However a chat is cut into calls, retried and sent again, its interactions are the same."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.turns.memory_log import MemoryLog

Item = dict[str, Any]


@dataclass
class Chat:
    """`ends`: how many messages there are when a client may log: a prompt is complete, or its answer is there."""

    items: list[Item]
    ends: list[int]


@st.composite
def chats(draw: st.DrawFn, *, repeats: bool = False) -> Chat:
    """Draw a chat. `repeats`: people and models say the same again and again."""
    items: list[Item] = []
    ends: list[int] = []

    def add(role: str, **more: Any) -> None:
        text = draw(st.sampled_from(["yes", "ok"])) if repeats else f"{len(items)}"
        items.append({"role": role, "content": text, **more})

    if draw(st.booleans()):
        items.append({"role": "system", "content": "Be short"})
    for _ in range(draw(st.integers(1, 5))):
        add("user")
        ends.append(len(items))
        rounds = draw(st.sampled_from([0, 0, 0, 1, 2]))
        for _ in range(rounds):
            names = [f"call {len(items)} {n}" for n in range(draw(st.integers(1, 2)))]
            function = {"name": "f", "arguments": "{}"}
            add("assistant", tool_calls=[{"id": name, "type": "function", "function": function} for name in names])
            ends.append(len(items))
            for name in names:
                add("tool", tool_call_id=name)
            ends.append(len(items))
        if rounds or draw(st.booleans()) or draw(st.booleans()):
            add("assistant")
            ends.append(len(items))
    return Chat(items, ends)


def whole(chat: Chat) -> MemoryLog:
    log = MemoryLog()
    log.send(chat.items)
    return log


def same(log: MemoryLog, chat: Chat) -> bool:
    expected = whole(chat)
    return log.exchanges() == expected.exchanges() and not any(
        row["reply_to"] or row["alternative_to"] for row in log.rows.values()
    )


@given(chats(), st.data())
@settings(max_examples=150, deadline=None)
def test_any_windows_and_any_retries_store_a_chat_once(chat: Chat, data: st.DataObject) -> None:
    has_system = chat.items[0]["role"] == "system"
    # a system prompt further back than what is read is stored again
    log = MemoryLog(read_most=1000 if has_system else data.draw(st.sampled_from([1000, 4])))
    stored = 0
    sent: list[list[Item]] = []
    for end in [*data.draw(st.lists(st.sampled_from(chat.ends), unique=True).map(sorted)), len(chat.items)]:
        start = data.draw(st.integers(max(0, stored - 6), stored))
        window = chat.items[start:end]
        if has_system and start and data.draw(st.booleans()):
            window = [chat.items[0], *window]
        sent.append(window)
        log.send(window)
        stored = end
        if data.draw(st.booleans()):
            log.send(window)
    assert log.exchanges() == whole(chat).exchanges()
    assert not any(row["reply_to"] or row["alternative_to"] for row in log.rows.values())


@given(chats(repeats=True), st.data())
@settings(max_examples=150, deadline=None)
def test_a_growing_list_is_stored_once_even_if_people_repeat_themselves(chat: Chat, data: st.DataObject) -> None:
    log = MemoryLog()
    for end in [*data.draw(st.lists(st.sampled_from(chat.ends)).map(sorted)), len(chat.items)]:
        log.send(chat.items[:end])
    assert same(log, chat)


@given(chats(), st.data())
@settings(max_examples=150, deadline=None)
def test_lists_that_race_with_each_other_are_stored_once(chat: Chat, data: st.DataObject) -> None:
    log = MemoryLog()
    for end in [*data.draw(st.lists(st.sampled_from(chat.ends)).map(sorted)), len(chat.items)]:
        log.send(chat.items[:end], seen=data.draw(st.integers(0, len(log.earlier) - 1)))
    assert log.rows.keys() == whole(chat).rows.keys()
    assert sorted(map(str, log.exchanges())) == sorted(map(str, whole(chat).exchanges()))


@given(chats())
@settings(max_examples=100, deadline=None)
def test_calls_of_the_model_one_after_the_other_are_the_whole_chat(chat: Chat) -> None:
    log = MemoryLog()
    for start, end in zip([0, *chat.ends], [*chat.ends, len(chat.items)], strict=True):
        if chat.items[start:end]:
            log.send(chat.items[start:end])
    assert same(log, chat)
    assert log.rows.keys() == whole(chat).rows.keys()


def pairs_of(chat: Chat, *, timed: bool = False) -> list[list[Item]]:
    """Return the questions of a chat, each with its answer, with ids; `timed`: and with times."""
    pairs: list[list[Item]] = []
    for n, item in enumerate(chat.items):
        facts = {"id": f"m{n}"} | ({"created_at": f"2026-11-20T06:{n:02}:00Z"} if timed else {})
        if item["role"] == "user":
            pairs.append([{**item, **facts}])
        elif item["role"] == "assistant" and "tool_calls" not in item and len(pairs[-1]) == 1:
            pairs[-1].append({**item, **facts, "reply_to": pairs[-1][0]["id"]})
    return pairs


@given(chats(), st.data())
@settings(max_examples=150, deadline=None)
def test_messages_with_ids_and_times_are_of_one_branch_in_any_order(chat: Chat, data: st.DataObject) -> None:
    pairs = pairs_of(chat, timed=True)
    log = MemoryLog()
    for pair in pairs:
        if data.draw(st.booleans()):
            log.send(pair)
    places = st.integers(0, len(pairs))
    for part in data.draw(st.lists(st.tuples(places, places), min_size=1, max_size=4)):
        start, end = sorted(part)
        if start < end:
            log.send([message for pair in pairs[start:end] for message in pair])
    for pair in pairs:  # what comes before the first stored message of a list isn't stored
        log.send(pair)
    for end in data.draw(st.permutations(range(1, len(pairs) + 1))):
        log.send([message for pair in pairs[:end] for message in pair])
    assert len(log.rows) == len(pairs)
    assert not any(row["reply_to"] or row["alternative_to"] for row in log.rows.values())


@given(chats(), st.data())
@settings(max_examples=150, deadline=None)
def test_messages_with_ids_may_come_in_any_order(chat: Chat, data: st.DataObject) -> None:
    pairs = pairs_of(chat)
    messages = [message for pair in pairs for message in pair]
    log = MemoryLog()
    places = st.integers(0, len(messages))
    for start, end in data.draw(st.lists(st.tuples(places, places), max_size=6)):
        if messages[start:end]:
            log.send(messages[start:end])
    for message in data.draw(st.permutations(messages)):
        log.send([message])
    # which branch they are of isn't compared: without times, what comes late can look like a question that was edited
    found = {row["key"]: (row["prompt"], row["response"]) for row in log.rows.values()}
    assert found == {
        pair[0]["id"]: (pair[0]["content"], pair[1]["content"] if len(pair) > 1 else None) for pair in pairs
    }
