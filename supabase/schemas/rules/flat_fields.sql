-- Returns the fields of an interaction, each key of its metadata as a field of its own, 'metadata.KEY'.
create or replace function turnlog.flat_fields(facts jsonb) returns table (field text, said jsonb)
language sql immutable parallel safe
set search_path = ''
as $$
    select f.key, f.value from jsonb_each(facts) as f where f.key <> 'metadata'
     union all
    select 'metadata.' || m.key, m.value from jsonb_each(coalesce(nullif(facts -> 'metadata', 'null'), '{}')) as m
$$;
