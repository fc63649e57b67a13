"""Finds what is new in a list of messages, and which interactions it becomes.

The list is compared with what its session has stored: the whole conversation, its last messages or only the newest may
be sent, any number of times. An interaction is named by the id of its question; without one its id derives from the
interaction before it and from what was new to it, so that callers who send the same list at once store it once.
"""

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, NamedTuple
from uuid import uuid5

from conversation.turns import matching
from conversation.turns.message import Message, awaits_answer, naming, to_content
from conversation.turns.reading import OWN_ID, REPLIES_TO, StoredCall, stored_call
from conversation.turns.roles import ASSISTANT, SYSTEM, USER
from logging_store import operations as ops
from logging_store.records import identity
from logging_store.spool.branches import Tree, node_of

_NO_TEXT = Message("", None)  # differs from every message of a list
_MOST_BRANCHES = 10  # of a session that a list is compared with


class Log(NamedTuple):
    """What a session has stored: its last interactions in order, all of them if `is_whole`."""

    project: str
    session_id: str
    interactions: Sequence[ops.Interaction] = ()
    is_whole: bool = True


@dataclass(slots=True, eq=False)
class PlannedCall:
    """An interaction, with the messages of the list that are its own.

    `name`: its id or key. `stored`: as it is stored, if it is known. `news`: what of it isn't: prompt, response.
    `reply_to`, `alternative_to`: names of other interactions. `replies_to`: what its message says it replies to.
    `is_question_unknown`: it answers a question that isn't stored yet, or further back than what was read.
    `repeats`: messages of the list that it has already. `context`: what was sent before its prompt.
    """

    id: str
    name: str
    prompt: list[Message] = field(default_factory=list)
    response: Message | None = None
    stored: StoredCall | None = None
    news: set[str] = field(default_factory=set)
    reply_to: str | None = None
    alternative_to: str | None = None
    replies_to: str | None = None
    is_question_unknown: bool = False
    repeats: list[Message] = field(default_factory=list)
    context: Sequence[Message] = ()

    @property
    def has_news(self) -> bool:
        """Whether its messages say something that isn't stored."""
        return self.stored is None or bool(self.news) or bool(self._new_times()) or self._new_answer_id() is not None

    @property
    def is_edited(self) -> bool:
        """Whether its messages only say something else than the stored ones: under their ids, or grown."""
        known = {"prompt": bool(self.known_prompt), "response": bool(self.stored and self.stored.response)}
        return bool(self.news) and all(known[part] for part in self.news)

    @property
    def messages(self) -> list[Message]:
        return [*self.prompt, *([self.response] if self.response else [])]

    @property
    def parts(self) -> list[tuple[str, Message]]:
        """Its messages of the list, each with the part that it is of: prompt or response."""
        return [*(("prompt", each) for each in self.prompt), *([("response", self.response)] if self.response else [])]

    @property
    def known_prompt(self) -> list[Message]:
        """The messages of its stored prompt."""
        return list(self.stored.prompt) if self.stored else []

    @property
    def known_links(self) -> tuple[str | None, str | None]:
        """The ids of the interaction that the stored one follows, and of the one in whose place it stands."""
        if self.stored is None:
            return None, None
        if self.stored.alternative_to is None and not self.stored.prompt:
            return None, self.stored.reply_to  # another answer to that one's question
        return self.stored.reply_to, self.stored.alternative_to

    @property
    def has_question(self) -> bool:
        return bool(self.prompt or self.known_prompt)

    @property
    def answer(self) -> Message | None:
        """The answer that it has, in the list or in the log."""
        return self.response or (self.stored.response[-1] if self.stored and self.stored.response else None)

    @property
    def is_placeholder(self) -> bool:
        """Whether its stored answer is empty and still pending: what comes is the first that is said."""
        return (
            self.response is None
            and self.stored is not None
            and self.stored.status == "pending"
            and not any(each.content or each.tool_calls for each in self.stored.response)
        )

    def moves_on(self, answer: Message) -> bool:
        """Return whether its stored answer was still growing, and is not by what a message says."""
        return (
            self.stored is not None
            and bool(self.stored.response)
            and self.stored.status == "pending"
            and answer.facts.get("status") != "pending"
        )

    @property
    def is_alone(self) -> bool:
        """Whether its answer has no question of its own: nobody asked, or another interaction has the question."""
        return not self.has_question and not self.is_question_unknown

    def question_fields(self) -> dict[str, Any]:
        """Return the fields of its interaction that its prompt states."""
        if not self.prompt:
            return {}
        named = naming(self.prompt)
        content = to_content(self.prompt, USER)
        if self.stored and "prompt" not in self.news and self.stored.prompt_content is not None:
            content = self.stored.prompt_content  # the same in another form, or without what clients don't send back
        stated = {
            "prompt": content,
            "started_at": self._time_of(named, "prompt"),
            "metadata": {REPLIES_TO: self.replies_to} if self.replies_to and not self.alternative_to else None,
        }
        if "response" not in self.news and self.answer is None and not awaits_answer(self.prompt):
            stated["status"] = "completed"  # no answer is expected
        return {name: value for name, value in (stated | self._links()).items() if value is not None}

    def answer_fields(self) -> dict[str, Any]:
        """Return the fields of its interaction that its response states."""
        if self.response is None:
            return {}
        content = to_content([self.response], ASSISTANT)
        if self.stored and "response" not in self.news and self.stored.response_content is not None:
            content = self.stored.response_content
        elif "error" in self.response.facts and not content:
            content = None  # it failed before it said anything
        metadata = dict(self.response.facts.get("metadata", {}))
        if self.response.id is not None or self.is_alone:
            metadata[OWN_ID] = self.response.id or self.name
        if self.replies_to and self.is_alone:
            metadata[REPLIES_TO] = self.replies_to
        time = self._time_of(self.response, "response")
        stated = {
            "response": content,
            **self.response.facts,
            "started_at": time if self.is_alone else None,
            "completed_at": time,
            "metadata": metadata or None,
        }
        links = self._links() if self.is_alone else {}
        return {name: value for name, value in (stated | links).items() if value is not None}

    def fields(self) -> dict[str, Any]:
        """Return the fields of its interaction that its messages state and that aren't stored yet.

        What is stored isn't repeated, but for one text by which the record is an interaction's: a client that sends a
        history again may have other times for it, which contradict nothing that is new.
        """
        if self.stored is None:
            question, answer = self.question_fields(), self.answer_fields()
        else:
            question = self.question_fields() if "prompt" in self.news else {}
            answer = self.answer_fields() if "response" in self.news else {}
            if not question and not answer:
                known = (("response", self.stored.response_content), ("prompt", self.stored.prompt_content))
                question = dict([next((each for each in known if each[1] is not None), ("status", "pending"))])
            question |= self._new_times()
            if (own_id := self._new_answer_id()) is not None:
                answer["metadata"] = answer.get("metadata", {}) | {OWN_ID: own_id}
        metadata = question.get("metadata", {}) | answer.get("metadata", {})
        return question | answer | ({"metadata": metadata} if metadata else {})

    def _time_of(self, message: Message, part: Literal["prompt", "response"]) -> str | None:
        """Return a message's time; of an edited one not the time of the first text, which it isn't of."""
        known = () if self.stored is None else self.stored.prompt if part == "prompt" else self.stored.response
        is_edited = part in self.news and any(each.created_at == message.created_at for each in known)
        return None if is_edited else _iso(message)

    def _new_times(self) -> dict[str, str]:
        """Return the times of its messages that aren't stored."""
        if self.stored is None:
            return {}
        asked = naming(self.prompt) if self.prompt else None
        known_times = (
            ("started_at", asked, naming(self.stored.prompt) if self.stored.prompt else None),
            ("completed_at", self.response, self.stored.response[-1] if self.stored.response else None),
        )
        return {
            name: time
            for name, message, known in known_times
            if message and known and known.created_at is None and (time := _iso(message))
        }

    def _new_answer_id(self) -> str | None:
        """Return the id of its answer if it is stored without one."""
        if self.stored is None or self.response is None or not self.stored.response or self.is_alone:
            return None
        return None if self.stored.answer_id else self.response.id

    def _links(self) -> dict[str, str | None]:
        return {"reply_to": self.reply_to, "alternative_to": self.alternative_to}


def plan(
    log: Log, messages: Sequence[Message], *, from_start: bool = False, gaps: Collection[int] = ()
) -> list[PlannedCall]:
    """Return the interactions of a list of messages, in the order of the list.

    `from_start`: the list begins with the conversation. `gaps`: places of items that are no messages; an answer behind
    one isn't given to the question before it.
    """
    planner = _Planner(log, sorted(gaps))
    rest = planner.take_stored(messages, from_start=from_start)
    for position in rest:
        planner.take(messages, position)
    planner.finish()
    return planner.planned


def other_answer(log: Log, call: PlannedCall) -> PlannedCall:
    """Return the interaction of an answer whose question has another one: it stands in that one's place."""
    assert call.response is not None  # noqa: S101 - it is an answer's
    name = call.response.id or derived_id(log.project, log.session_id, call.id, "answer", [call.response])
    own = identity.interaction(log.project, log.session_id, name)
    other = PlannedCall(own.id, name, response=call.response, news={"response"}, alternative_to=call.name)
    other.replies_to = call.response.reply_to or call.name
    return other


class _Place(NamedTuple):
    """A stored message, and where it is."""

    call: PlannedCall
    part: Literal["prompt", "response"]
    message: Message


class _Planner:
    def __init__(self, log: Log, gaps: Sequence[int] = ()) -> None:
        self._log = log
        self._gaps = gaps
        self._stored = [_known(stored_call(row)) for row in log.interactions]
        self._by_name: dict[str, PlannedCall] = {}  # by id, key, and the ids of the messages of its prompt
        self._by_answer: dict[str, PlannedCall] = {}
        self._system: dict[str, PlannedCall] = {}  # normal form of a system message -> the latest call that has it
        self._latest_system: str | None = None
        self._repeated: list[Message] = []  # system messages of the list that a call has already
        for each in self._stored:
            self._register(each)
            self._note_system(each, each.known_prompt)
        self._texts: dict[tuple[str, str | None, int], tuple[list[Message], list[Message], int]] = {}
        self.planned: list[PlannedCall] = []
        self._inputs: list[Message] = []  # of the next prompt
        self._changed_system: list[Message] = []  # came anew with messages that are stored; goes to the next prompt
        self._parents, self._end = self._tree()
        self._last = self._end
        self._open = self._awaiting()  # what an answer that replies to nothing answers
        self._branches_off = False  # the next prompt follows `last`, which isn't the latest
        self._in_place_of: PlannedCall | None = None  # the next prompt stands in the place of this one
        self._context: Sequence[Message] = ()

    def _tree(self) -> tuple[dict[str, PlannedCall | None], PlannedCall | None]:
        """Return what each interaction of the log follows, by id, and the end of the current branch."""
        if not self._has_branches:
            return dict(zip((each.id for each in self._stored), [None, *self._stored], strict=False)), (
                self._stored[-1] if self._stored else None
            )
        by_id = {each.id: each for each in self._stored}
        tree = Tree([node_of(row) for row in self._log.interactions])
        parents: dict[str, PlannedCall | None] = {}
        for each in self._stored:
            up = tree.follows[each.id]
            while up is not None and up not in by_id:
                up = tree.follows[up]
            parents[each.id] = None if up is None else by_id[up]
        on_branch = tree.branch()
        return parents, next((each for each in reversed(self._stored) if each.id in on_branch), self._stored[-1])

    @property
    def _has_branches(self) -> bool:
        return any(each.known_links != (None, None) for each in self._stored)

    def _awaiting(self) -> PlannedCall | None:
        """Return the latest interaction of the log if it has no answer and may get one."""
        for each in reversed(self._stored):
            if each.answer:
                return None
            if not each.known_prompt or awaits_answer(each.known_prompt):
                return each
        return None

    def _register(self, call: PlannedCall) -> None:
        for name in (call.id, call.name, *(m.id for m in call.known_prompt), *(m.id for m in call.prompt)):
            if name is not None:
                self._by_name.setdefault(name, call)
        if (answer := call.answer) is not None and answer.id is not None:
            self._by_answer.setdefault(answer.id, call)

    def _note_system(self, call: PlannedCall, prompt: Iterable[Message]) -> None:
        for message in prompt:
            if message.role == SYSTEM:
                self._latest_system = matching.key(message)
                self._system[self._latest_system] = call

    def take_stored(self, messages: Sequence[Message], *, from_start: bool) -> list[int]:
        """Take the messages that are stored; return the positions of the others, in order."""
        body = [n for n, message in enumerate(messages) if message.role != SYSTEM]  # sent again with any part
        sent = matching.Line([messages[n] for n in body])
        places, run = self._find(messages, sent, from_start=from_start)
        if not run.length:
            if from_start and self._in_place_of is None:
                self._last = self._open = None  # ids derive from the beginning, whatever else came meanwhile
            return list(range(len(messages)))
        for n in range(run.length):
            place, message = places[run.stored + n], sent.messages[run.sent + n]
            is_changed = matching.key(place.message) != sent.keys[run.sent + n]
            if place.part == "response" and place.message is message is messages[-1]:
                # nothing tells an expired answer from another one: it isn't taken for stored
                is_changed = (
                    place.call.stored is None or message.id is None or message.id != place.call.stored.answer_id
                )
            self._add(place.call, place.part, message, is_changed=is_changed)
        last = places[run.stored + run.length - 1]
        self._last = last.call
        self._open = last.call if last.part == "prompt" else None
        self._branches_off = last.call is not self._end
        behind = places[run.stored + run.length :]
        if behind and behind[0].part == "prompt" and behind[0].call is not last.call:
            if _comes_before(sent.messages[run.sent + run.length :], behind[0].message):
                self._branches_off = False
            elif run.sent == 0:  # a list that begins elsewhere may only have come in another order
                self._in_place_of = behind[0].call
        end = body[run.sent + run.length - 1]
        for message in messages[:end]:
            if message.role == SYSTEM:
                is_known = matching.key(message) in self._system
                (self._repeated if is_known else self._changed_system).append(message)
        return list(range(end + 1, len(messages)))

    def _find(
        self, messages: Sequence[Message], sent: matching.Line, *, from_start: bool
    ) -> tuple[list[_Place], matching.Run]:
        """Return the branch of the log that has most of a list, and which messages of the two are the same.

        `sent`: the list without its system messages.
        """
        best: tuple[list[_Place], matching.Run] = [], matching.NO_RUN
        for branch in self._branches():
            places, said = self._with_erased(branch, messages)
            stored = matching.Line(said)
            run = matching.find_run(stored, sent, is_whole=self._log.is_whole, from_start=from_start)
            if run.length > best[1].length:
                best = places, run
        return self._without_part_of_prompt(*best, sent)

    def _with_erased(self, places: Sequence[_Place], messages: Sequence[Message]) -> tuple[list[_Place], list[Message]]:
        """Return places with their messages; those of an interaction without texts are the list's own, if it has them.

        Its texts were erased or have expired, but its id is the question's or derives from what it said, so what comes
        again is known without being kept.
        """
        body = [message for message in messages if message.role != SYSTEM]
        found: list[_Place] = []
        said: list[Message] = []
        before: PlannedCall | None = None
        end = 0
        for call, group in itertools.groupby(places, lambda place: place.call):
            own = list(group)
            texts = [place.message for place in own]
            if _lacks_texts(call):
                prompt, answer, end = self._texts_of(call, before, messages, end)
                answer = answer if own[-1].part == "response" else []
                end += len(answer)
                if prompt or answer:
                    texts = [*prompt, *answer]
                    own = [_place_again(call, "prompt", each) for each in prompt]
                    own += [_place_again(call, "response", each) for each in answer]
                    is_second = bool(prompt) and body[0].is_answer and prompt[0] is body[1]
                    if is_second and found and found[-1].part == "response" and _lacks_texts(found[-1].call):
                        # a list of the last messages begins with the answer before
                        found[-1], said[-1] = _place_again(found[-1].call, found[-1].part, body[0]), body[0]
                elif not found and not self._log.is_whole:
                    own, texts = [], []  # what its id derives from wasn't read; a list may go on behind it
            found += own
            said += texts
            before = call
        return found, said

    def _texts_of(
        self, call: PlannedCall, before: PlannedCall | None, messages: Sequence[Message], begin: int
    ) -> tuple[list[Message], list[Message], int]:
        """Return the prompt of a list from which an interaction's id derives, the answer after it, and its position.

        People repeat themselves, so the search begins behind what was found before: at `begin`.
        """
        key = (call.id, before.id if before else None, begin)
        if key not in self._texts:
            self._texts[key] = self._find_texts(call, key[1], messages, begin)
        return self._texts[key]

    def _find_texts(
        self, call: PlannedCall, before_id: str | None, messages: Sequence[Message], begin: int
    ) -> tuple[list[Message], list[Message], int]:
        start, has_question = begin, False
        for end, message in enumerate(messages[begin:], begin + 1):
            if message.is_answer:
                if not call.has_question and self._is_of(call, before_id, [message], "message", "answer"):
                    return [], [message], end - 1
                start, has_question = end, False
                continue
            if message.role == USER:  # as `take` does: a second question begins another prompt
                start, has_question = end - 1 if has_question else start, True
            said = messages[start:end]
            prompt = [each for each in said if each.role != SYSTEM]
            if self._is_of(call, before_id, prompt or said, "prompt"):
                return prompt, [each for each in messages[end : end + 1] if each.is_answer], end
        return [], [], begin

    def _is_of(self, call: PlannedCall, before_id: str | None, said: Sequence[Message], *kinds: str) -> bool:
        """Return whether an interaction has these messages, by their id or by the one that derives from them."""
        project, session_id = self._log.project, self._log.session_id
        if (name := naming(said).id) is not None:
            return name in {call.id, call.name} or identity.interaction(project, session_id, name).id == call.id
        return any(derived_id(project, session_id, before_id, kind, said) == call.id for kind in kinds)

    def _branches(self) -> Iterator[list[_Place]]:
        """Yield the messages of branches of the log: the current one, then the latest."""
        by_id = {each.id: each for each in self._stored}
        followed = {parent.id for parent in self._parents.values() if parent}
        leaves = (each for each in reversed(self._stored) if each.id not in followed and each is not self._end)
        for leaf in islice(itertools.chain([self._end] if self._end else [], leaves), _MOST_BRANCHES):
            path: list[PlannedCall] = []
            at: PlannedCall | None = leaf
            while at is not None:
                path.append(at)
                at = self._parents[at.id]
            yield [place for each in reversed(path) for place in _places(each, by_id)]

    def _without_part_of_prompt(
        self, places: list[_Place], run: matching.Run, sent: matching.Line
    ) -> tuple[list[_Place], matching.Run]:
        """Shorten a run by a prompt that it has in part, and from which the list goes another way."""
        behind = run.stored + run.length
        if not run.length or run.sent + run.length == len(sent) or behind == len(places):
            return places, run
        call = places[behind].call
        if places[behind].part != "prompt" or places[behind - 1].call is not call:
            return places, run
        length = run.length
        while length and places[run.stored + length - 1].call is call:
            length -= 1
        self._in_place_of, self._open = call, None
        self._last = places[run.stored + length - 1].call if run.stored + length else None
        return places, replace(run, length=length)

    def _add(
        self, call: PlannedCall, part: Literal["prompt", "response"], message: Message, *, is_changed: bool
    ) -> None:
        if part == "prompt":
            call.prompt.append(message)
            call.replies_to = message.reply_to or call.replies_to
        else:
            call.response = message
            is_changed = is_changed or call.moves_on(message)
        if is_changed:
            call.news.add(part)
        if call not in self.planned:
            self.planned.append(call)

    def take(self, messages: Sequence[Message], position: int) -> None:
        """Take a message that wasn't found among the stored ones."""
        message = messages[position]
        before = messages[position - 1].place if position else -1
        if any(before < gap < message.place for gap in self._gaps):
            self._ask()
            self._open = None
        if message.is_answer:
            self._take_answer(message)
            return
        if message.role == SYSTEM:
            waiting = [*self._changed_system, *self._inputs]
            latest = next((matching.key(m) for m in reversed(waiting) if m.role == SYSTEM), self._latest_system)
            if latest == matching.key(message):
                self._repeated.append(message)
                return
        if message.role == USER and any(each.role == USER for each in self._inputs):
            self._ask()
        if not self._inputs:
            self._context = messages[:position]
        self._inputs.append(message)

    def finish(self) -> None:
        """Make an interaction of messages that nobody answered; assign the system messages that came again."""
        self._ask()
        for message in self._repeated:
            call = self._system.get(matching.key(message))
            if call is not None:
                call.repeats.append(message)
                if call not in self.planned:
                    self.planned.insert(0, call)

    def _ask(self) -> None:
        """Make an interaction of the messages that are to be its prompt."""
        if not self._inputs:
            return
        inputs = [*self._changed_system, *self._inputs]
        self._inputs, self._changed_system = [], []
        named = naming(inputs)
        if named.id is not None and (known := self._by_name.get(named.id)) is not None:
            self._ask_again(known, inputs)
            return
        call = self._new(named.id, "prompt", inputs)
        if call is None:
            return
        call.prompt, call.news = inputs, {"prompt"}
        call.context = [each for each in self._context if all(each is not other for other in inputs)]
        self._note_system(call, inputs)
        if named.reply_to is not None:
            call.replies_to = named.reply_to
            target = self._by_name.get(named.reply_to) or self._by_answer.get(named.reply_to)
            call.reply_to = target.name if target else None
        else:
            call.alternative_to = self._in_place_of.name if self._in_place_of else None
            # a list that shows what it follows says so where it could be something else
            is_forked = self._branches_off or self._in_place_of or self._has_branches
            if self._last is not None and self._last in self.planned and (is_forked or _is_alternative(self._last)):
                call.reply_to = self._last.name
        self._in_place_of, self._branches_off = None, False
        self._register(call)
        self._last = self._open = call

    def _ask_again(self, known: PlannedCall, inputs: list[Message]) -> None:
        """Take a question whose id is known: the same, or another text for it."""
        before = [m for m in known.prompt or known.known_prompt if m.role != SYSTEM]
        after = [m for m in inputs if m.role != SYSTEM]
        is_same = list(map(matching.key, before)) == list(map(matching.key, after))
        if known.prompt and is_same:
            known.repeats += inputs
        else:
            if known.prompt:
                known = PlannedCall(known.id, known.name, stored=known.stored)  # both are written
            known.prompt = inputs
            known.replies_to = naming(inputs).reply_to
            if not is_same:
                known.news.add("prompt")
        if known not in self.planned:
            self.planned.append(known)
        self._last = self._open = known

    def _take_answer(self, message: Message) -> None:
        if self._open is None or any(each.role != SYSTEM for each in self._inputs):
            self._ask()
        self._in_place_of = None
        target = self._open
        if message.reply_to is not None:
            target = self._by_name.get(message.reply_to)
            if target is None and message.reply_to not in self._by_answer:
                # the question may come later, or be further back than what was read
                own = identity.interaction(self._log.project, self._log.session_id, message.reply_to)
                target = PlannedCall(own.id, message.reply_to, is_question_unknown=True)
                self._register(target)
        elif message.id is not None and (answered := self._by_answer.get(message.id)) is not None:
            target = answered
        self._open = None
        if target is None:
            self._speak(message)
        elif _lacks_texts(target):
            self._answer(target, message)  # the store refuses it
        elif (known := target.answer) is None or target.is_placeholder:
            self._answer(target, message)
        elif matching.same(known, matching.key(known), message, matching.key(message), growing=True):
            is_changed = matching.key(known) != matching.key(message)
            self._answer(target, message, is_new=is_changed or target.moves_on(message))
        elif message.id is not None and message.id == known.id:
            self._answer(target, message)
        else:
            self._answer_otherwise(target, message)

    def _answer(self, call: PlannedCall, message: Message, *, is_new: bool = True) -> None:
        said = call.response
        if said is not None and not is_new:
            call.repeats.append(message)
            message = said
        elif said is not None:
            if not matching.is_grown(said, message):
                call = PlannedCall(call.id, call.name, stored=call.stored)  # both are written
            else:
                message, shorter = sorted((message, said), key=lambda each: -len(str(each.content)))
                call.repeats.append(shorter)
        call.response = message
        if is_new:
            call.news.add("response")
        if call not in self.planned:
            self.planned.append(call)
        self._register(call)
        self._last = call

    def _answer_otherwise(self, question: PlannedCall, message: Message) -> None:
        """Make another answer to a question that has one: an interaction of its own in the place of the first."""
        if message.id is not None and (known := self._by_name.get(message.id)) is not None and not known.has_question:
            self._answer(
                known, message, is_new=known.answer is None or matching.key(known.answer) != matching.key(message)
            )
            return
        self._last = question
        call = self._new(message.id, "answer", [message])
        if call is None:
            return
        call.response, call.news = message, {"response"}
        call.alternative_to = question.name
        call.replies_to = message.reply_to or question.name
        self._register(call)
        self._last = call

    def _speak(self, message: Message) -> None:
        """Make an interaction of what an assistant says without a question."""
        call = self._new(message.id, "message", [message])
        if call is None:
            return
        call.response, call.news = message, {"response"}
        call.replies_to = message.reply_to
        self._register(call)
        self._last = call

    def _new(self, name: str | None, kind: str, messages: Sequence[Message]) -> PlannedCall | None:
        """Return a new interaction; None if the one with its derived id is known, which then has these messages."""
        project, session_id = self._log.project, self._log.session_id
        if name is None:
            own_id = derived_id(project, session_id, self._last.id if self._last else None, kind, messages)
            own_name = own_id
        else:
            own = identity.interaction(project, session_id, name)
            own_id, own_name = own.id, name
        if name is None and (known := self._by_name.get(own_id)) is not None:
            for message in messages:
                self._add(known, "response" if message.is_answer else "prompt", message, is_changed=False)
            self._last, self._open = known, (None if kind != "prompt" else known)
            return None
        call = PlannedCall(own_id, own_name)
        self.planned.append(call)
        return call


def derived_id(project: str, session_id: str, before: str | None, kind: str, messages: Iterable[Message]) -> str:
    """Return the id of an interaction whose messages have none: it derives from the one before and from what is new.

    Instructions don't count beside other messages: many clients put the time into them.
    """
    messages = list(messages)
    counted = [message for message in messages if message.role != SYSTEM] or messages
    said = json.dumps([kind, before, *map(matching.key, counted)], ensure_ascii=False)
    digest = hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()
    return str(uuid5(identity.NAMESPACE, f"{project}\nmessages\n{session_id}\n{digest}"))


def _lacks_texts(call: PlannedCall) -> bool:
    return call.stored is not None and call.stored.lacks_texts


def _place_again(call: PlannedCall, part: Literal["prompt", "response"], message: Message) -> _Place:
    """Return the place of a message that comes again for an interaction without texts.

    An erased one has another text than the message, which is therefore news, and the store refuses it.
    """
    is_erased = call.stored is not None and call.stored.is_erased
    return _Place(call, part, _NO_TEXT if is_erased else message)


def _places(call: PlannedCall, by_id: Mapping[str, PlannedCall]) -> Iterator[_Place]:
    """Yield the places of an interaction's messages; another answer comes with the question that it answers."""
    question = call
    for _ in by_id:  # callers may have linked in a circle
        first = by_id.get(question.known_links[1] or "")
        if question.known_prompt or first is None:
            break
        question = first
    yield from (_Place(question, "prompt", message) for message in question.known_prompt if message.role != SYSTEM)
    if call.stored is not None:
        yield from (_Place(call, "response", message) for message in call.stored.response)


def _known(stored: StoredCall) -> PlannedCall:
    answer = stored.response[-1] if stored.response else None
    is_unknown = not stored.prompt and answer is not None and answer.reply_to == stored.name
    return PlannedCall(stored.id, stored.name, stored=stored, is_question_unknown=is_unknown)


def _comes_before(new: Sequence[Message], stored: Message) -> bool:
    """Return whether messages that weren't stored are from before a stored one, by their times or their order."""
    if any(each.id is not None and each.id == stored.id for each in new):
        return True
    said_at = new[0].created_at if new else None
    return said_at is not None and stored.created_at is not None and said_at < stored.created_at


def _is_alternative(call: PlannedCall) -> bool:
    return call.alternative_to is not None or (call.stored is not None and call.stored.alternative_to is not None)


def _iso(message: Message) -> str | None:
    return message.created_at.isoformat() if message.created_at else None
