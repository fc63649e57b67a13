"""Where the newest messages of a client stand in a conversation that repeats itself."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from conversation.turns.message import Message
from conversation.turns.resent import History


def simple(said: Sequence[str], sent: Sequence[str]) -> int:
    """Return how many messages at the end of a conversation are those at the beginning of a prompt."""
    sizes = range(min(len(said), len(sent)), 0, -1)
    return next((n for n in sizes if list(said[-n:]) == list(sent[:n])), 0)


TEXTS = st.lists(st.sampled_from("ab"), max_size=12)


@given(TEXTS, TEXTS)
def test_the_longest_overlap_is_found(said: list[str], sent: list[str]) -> None:
    history = History()
    history.add([Message("user", each) for each in ["first", *said]])
    kept, new = history.read([Message("user", each) for each in [*sent, "new"]])
    assert (kept, new) == (len(said) + 1, list(range(simple(said, sent), len(sent) + 1)))


def test_a_chat_of_equal_messages_is_compared_once() -> None:
    # window by window, these are 200 million comparisons
    same = [Message("user", "ok")] * 30_000
    history = History()
    history.add([Message("user", "first"), *same])
    sent = [*same[:15_000], Message("user", "no"), *same[15_001:], Message("user", "new")]
    assert history.read(sent).new == list(range(15_000, 30_001))
    instructions = [Message("system", f"{n}") for n in range(30_000)]
    kept = len(history)
    history.add(instructions)
    history.add([], kept)
    assert len(history.read(instructions).new) == 30_000
