-- Whether a record has a text for an interaction whose texts expired: it can't be compared any more, and doesn't come back.
-- Numbers still fill.
create or replace function turnlog.is_expired(stored jsonb, incoming jsonb) returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select stored ->> 'text_expired_at' is not null and exists (
        select from jsonb_each(incoming) as t (field, value)
         where t.field in ('prompt', 'context', 'response', 'error') and t.value not in ('null', '[]')
           and (t.field <> 'error' or t.value <> '""') and t.value is distinct from stored -> t.field)
$$;
