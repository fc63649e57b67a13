-- Fills stored interactions from the batch's rows at some positions, each of another interaction. A row that
-- contradicts the stored one changes nothing, unless its `on_conflict` is 'fill'. Returns position -> receipt.
create or replace function turnlog.fill_stored(in_project text, rows jsonb, rejected jsonb, positions bigint[]) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    receipts jsonb;
begin
    with incoming as materialized (
        -- one lookup by primary key each, and an upsert below: a join would be planned by statistics, and those of an
        -- empty table make it read the whole project
        select p.position, i.facts, (select h from turnlog.ai_interactions as h
                                      where h.project = in_project and h.session_id = (i.facts ->> 'session_id')::uuid
                                        and h.id = (i.facts ->> 'id')::uuid) as stored
          from unnest(positions) as p (position)
         cross join lateral (select interactions -> (p.position - 1)::integer as facts) as i
        offset 0
    ), compared as (
        select s.position, s.facts, s.stored, s.facts ->> 'on_conflict' as on_conflict,
               -- usually the call is a retry
               (s.stored).erased_at is null and jsonb_populate_record(s.stored, s.facts - 'created_at') = s.stored as is_same
          from incoming as s
         where (s.stored).id is not null
           and not rejected ? (s.facts ->> 'session_id') -- a long session that is being erased still has some
        offset 0
    ), decided as materialized (
        select c.position, c.stored,
               case when c.on_conflict = 'fill' then rule.fills
                    when c.on_conflict = 'report' or rule.conflicts is not null then null
                    else rule.fills end as fills,
               nullif(rule.conflicts || case when c.on_conflict = 'report' then array(
                   select f from jsonb_object_keys(rule.fills) as f order by f) end, '{}') as differing
          from compared as c
         cross join lateral turnlog.fill_rule(
               case when not c.is_same then to_jsonb(c.stored) end,
               case when not c.is_same then to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, c.facts))
                   - '{project,session_id,id,created_at,erased_at}'::text[] end) as rule
    ), filled as (
        insert into turnlog.ai_interactions as stored
        select m.*
          from decided as j
         cross join lateral jsonb_populate_record(j.stored, j.fills) as m
         where j.fills is not null
            on conflict (project, session_id, id) do update
           set (key, prompt, response, model, provider, status, error, finish_reason, started_at, completed_at, latency_ms,
                time_to_first_token_ms, input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens,
                cost_usd, participant, reply_to, alternative_to, chosen_at, turn, tags, metadata) = (
                excluded.key, excluded.prompt, excluded.response, excluded.model, excluded.provider, excluded.status,
                excluded.error, excluded.finish_reason, excluded.started_at, excluded.completed_at, excluded.latency_ms,
                excluded.time_to_first_token_ms, excluded.input_tokens, excluded.output_tokens,
                excluded.cached_input_tokens, excluded.cache_write_tokens, excluded.reasoning_tokens, excluded.cost_usd,
                excluded.participant, excluded.reply_to, excluded.alternative_to, excluded.chosen_at,
                excluded.turn, excluded.tags, excluded.metadata)
    ), queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, (j.stored).session_id, array_agg((j.stored).id)
          from decided as j
         where j.fills ?| '{prompt,response}'
         group by (j.stored).session_id
    )
    select jsonb_object_agg(s.position, case
               when j.fills is not null
                   then jsonb_build_object('receipt', 'filled', 'fields',
                            array(select f from jsonb_object_keys(j.fills) as f order by f))
                        || case when j.differing is not null
                                then jsonb_build_object('differs', j.differing) else '{}' end
               when j.differing is not null
                   then jsonb_build_object('receipt', 'conflict', 'fields', j.differing)
               when j.position is not null
                   then '{"receipt": "duplicate"}'
               when rejected ->> (s.facts ->> 'session_id') = 'erased'
                   then '{"receipt": "rejected", "reason": "erased"}'
               -- the row was neither stored nor erased, so another row holds its key
               else turnlog.key_conflict(in_project,
                        (select p ->> 'key' from jsonb_array_elements(rows -> 'sessions') as p
                          where p ->> 'id' = s.facts ->> 'session_id' limit 1),
                        (s.facts ->> 'session_id')::uuid, s.facts ->> 'key')
           end)
      into receipts
      from incoming as s
      left join decided as j on j.position = s.position;
    return receipts;
end
$$;
