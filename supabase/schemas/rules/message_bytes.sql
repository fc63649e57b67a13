-- Returns a list of messages as the text that turnlog.history_id takes, in UTF-8.
create or replace function turnlog.message_bytes(messages jsonb) returns bytea
language sql immutable parallel safe
set search_path = ''
as $$
    select substr(t.bytes, 2, octet_length(t.bytes) - 2) from (select convert_to(messages::text, 'UTF8') as bytes) as t
$$;
