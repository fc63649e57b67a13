-- Returns the id of a history by its messages as text, separated by ', ': so the text of a history is the beginning of
-- the texts of those that go on from it.
create or replace function turnlog.history_id(messages bytea) returns uuid
language sql immutable parallel safe
set search_path = ''
as $$
    select encode(substr(sha256(messages), 1, 16), 'hex')::uuid
$$;
