-- What errors of one kind have in common: an error's beginning on one line, without what differs each time: long numbers
-- and ids.
create or replace function turnlog.error_kind(error text) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select nullif(btrim(left(regexp_replace(regexp_replace(left(error, 300), '\s+', ' ', 'g'),
                                            '\m(?=[0-9a-fA-F-]{0,40}[0-9])[0-9a-fA-F-]{8,}\M|\d{4,}', '…', 'g'), 200)), '')
$$;
