-- A condition in SQL: whether a text is no identity but what a missing one looks like, perhaps after string formatting.
-- Written into the statements below, since a call for each of a million rows takes six times as long.
create or replace function turnlog.blank(expression text) returns text
language sql immutable
set search_path = ''
as $$
    select format(
        '(%1$s is null or lower(btrim(%1$s, E'' \t\r\n''))'
        ' in ('''', ''null'', ''undefined'', ''none'', ''00000000-0000-0000-0000-000000000000''))', expression)
$$;
