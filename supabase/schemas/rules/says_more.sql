-- Whether a context says more than another one of the same interaction: it has more messages, or of as many the greater
-- text. A client may send less of the same history with a later call.
create or replace function turnlog.says_more(context jsonb, other jsonb) returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select coalesce(context, 'null') <> 'null' and (coalesce(other, 'null') = 'null'
        or (jsonb_array_length(context), context::text collate "C") > (jsonb_array_length(other), other::text collate "C"))
$$;
