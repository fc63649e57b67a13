-- Reduces an error to its kind: its beginning on one line, with ids and long numbers replaced, so that errors of one
-- cause can be counted together. Returns null for an empty error.
create or replace function turnlog.error_kind(error text) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select nullif(btrim(left(regexp_replace(regexp_replace(left(error, 300), '\s+', ' ', 'g'),
                                            '\m(?=[0-9a-fA-F-]{0,40}[0-9])[0-9a-fA-F-]{8,}\M|\d{4,}', '…', 'g'), 200)), '')
$$;
