-- Returns what an interaction's record says of its content, field -> value, with a field 'metadata.KEY' for each key of its
-- metadata: what another record may say otherwise, and what a revision keeps. Whose the interaction is, when it began
-- and where it stands aren't content.
create or replace function turnlog.statement(record jsonb) returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select coalesce(jsonb_object_agg(f.field, f.value), '{}')
      from (select e.key as field, e.value
              from jsonb_each(record) as e
             where e.value not in ('null', '[]', '{}') and not (e.key = 'error' and e.value = '""')
               and e.key in ('prompt', 'response', 'error', 'finish_reason', 'completed_at', 'latency_ms',
                             'time_to_first_token_ms', 'output_tokens', 'reasoning_tokens', 'cost_usd', 'model', 'provider',
                             'input_tokens', 'cached_input_tokens', 'cache_write_tokens')
            union all
            select 'metadata.' || m.key, m.value
              from jsonb_each(coalesce(nullif(record -> 'metadata', 'null'), '{}')) as m) as f
$$;
