"""Ids are known before their rows: any client in any language derives the same one."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from logging_store.records import identity
from logging_store.records.identity import NAMESPACE

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), min_size=1)
UUIDS = st.uuids(allow_nil=False).map(str)


def test_the_namespace_never_changes() -> None:
    assert str(NAMESPACE) == "ced5a058-c036-54cd-a9be-49f37108eca6"
    assert uuid.uuid5(uuid.NAMESPACE_DNS, "turnlog") == NAMESPACE


def test_ids_of_keys_never_change() -> None:
    # computed once by hand with another implementation: a change here would double every record ever logged
    session = identity.session("default", "session_1700000000000_k3j9x2")
    interaction = identity.interaction("default", session.id, "m1")
    assert session.key == "session_1700000000000_k3j9x2"
    assert interaction.key == "m1"
    assert session.id == "d76ef6fc-490a-5c6a-a6ea-a16646cfd0c7"
    assert interaction.id == "dbe360f9-5eac-5b99-b4eb-2a3f055b7b40"
    assert identity.session("default", "会話 é/1").id == "f6fdb0c9-431a-5d7e-9eda-b93a7bf41a20"


@given(name=NAMES)
def test_a_key_is_the_uuid5_of_its_project_and_kind(name: str) -> None:
    session = identity.session("p", name)
    interaction = identity.interaction("p", session.id, name)
    assert session.id == str(uuid.uuid5(NAMESPACE, f"p\nsession\n{name}"))
    assert interaction.id == str(uuid.uuid5(NAMESPACE, f"p\ninteraction\n{session.id}\n{name}"))


@given(one=UUIDS)
def test_a_uuid_is_the_id_in_any_case(one: str) -> None:
    for spelling in (one, one.upper(), one.title()):
        assert identity.session("p", spelling) == (one, None)
        assert identity.interaction("q", one, spelling) == (one, None)


@given(one=UUIDS)
def test_a_text_that_resembles_a_uuid_is_a_key(one: str) -> None:
    for key in (f"{{{one}}}", f"urn:uuid:{one}", one.replace("-", ""), f"{one}\n", f" {one}", one[:-1], f"{one}0"):
        assert identity.session("p", key).key == key


def test_digits_of_other_scripts_are_not_uuid_digits() -> None:
    assert identity.session("p", "٠١٨٩٠٠٠٠-0000-4000-8000-000000000000").key is not None


@given(one=NAMES, other=NAMES, project=st.sampled_from(["p", "q", "p.session"]))
def test_no_two_names_share_an_id(one: str, other: str, project: str) -> None:
    sessions = {("p", one): identity.session("p", one).id, (project, other): identity.session(project, other).id}
    assert len(set(sessions.values())) == len(sessions)
    parent = identity.session("p", one)
    within = identity.interaction("p", parent.id, other)
    elsewhere = identity.interaction("p", identity.session("p", f"{one}!").id, other)
    assert len({parent.id, within.id, elsewhere.id}) == 3


def test_without_a_name_ids_are_new_and_sorted_by_time() -> None:
    ids = [identity.session("p", None).id for _ in range(1000)]
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
