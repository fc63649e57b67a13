"""What `make mutants` plants has a place in the code and a test that exists: the bugs themselves take minutes."""

import re

import pytest

from tests.mutants.planted import PLANTED, PlantedBug
from tests.mutants.sql_mutations import sql_mutations
from tests.mutants.workshop import ROOT


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_planted_bug_has_its_place_and_its_test(bug: PlantedBug) -> None:
    assert (ROOT / bug.file).read_text().count(bug.right) == 1
    path, _, name = bug.test.partition("::")
    name = name.partition("[")[0]
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_changes_of_sql_leave_declarations_comments_and_texts_alone() -> None:
    source = b"""\
-- if true then
create or replace function turnlog.f(a integer) returns integer
language plpgsql volatile
set search_path = ''
as $$
declare
    b integer := 1;
begin
    if a > 0 and b = 1 then -- or 2
        perform turnlog.g('x = y');
    end if;
    return (select case when c.n is null then 1 else 2 end from turnlog.c as c where not exists (select from d));
end
$$;
"""
    changes = {(each.line, " ".join(each.before.split()), each.after) for each in sql_mutations(source)}
    assert changes == {
        (9, "a > 0 and b = 1", "not coalesce((a > 0 and b = 1), false)"),
        (9, ">", ">="),
        (9, "and", "or"),
        (9, "=", "<>"),
        (10, "perform turnlog.g('x = y')", "null"),
        (12, "c.n is null", "not coalesce((c.n is null), false)"),
        (12, "is", "is not"),
        (12, "not exists", "exists"),
        (12, "not exists (select from d)", "not coalesce((not exists (select from d)), false)"),
    }
    for each in sql_mutations(source):
        assert each.apply(source) != source
