-- Returns whether two spans may be of one call, as two instrumentations see it: they overlap, and their models agree, of
-- which one may be a longer name of the other, as in gpt-4o and openai/gpt-4o-2024-08-06.
create or replace function turnlog.is_same_call(
    one_scope text, one_start timestamptz, one_end timestamptz, one_model text,
    other_scope text, other_start timestamptz, other_end timestamptz, other_model text)
returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select coalesce(
        one_scope <> other_scope
        and one_start <= greatest(other_start, other_end) and other_start <= greatest(one_start, one_end)
        and (one_model is null or other_model is null
             or starts_with(lower(regexp_replace(one_model, '^.*/', '')), lower(regexp_replace(other_model, '^.*/', '')))
             or starts_with(lower(regexp_replace(other_model, '^.*/', '')), lower(regexp_replace(one_model, '^.*/', '')))),
        false)
$$;
