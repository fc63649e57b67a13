-- Whether facts that aren't shown of an interaction, field -> value, are all part of others: equal, or an earlier state
-- of a response. When it was said is no part of it: a revision has its own time.
create or replace function turnlog.is_contained(facts jsonb, others jsonb) returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
    select not exists (
        select from jsonb_each(facts - '{status,completed_at}'::text[]) as f
         where (f.value = others -> f.key
                or f.key = 'response' and turnlog.grows(turnlog.as_messages(f.value),
                                                        turnlog.as_messages(others -> f.key))) is not true)
$$;
