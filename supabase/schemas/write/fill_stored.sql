-- Fills stored interactions from the batch's rows at some positions, each of another interaction: see
-- turnlog.interaction_rule. A row that contradicts the stored one changes nothing, unless its `on_conflict` is 'fill'.
-- Returns position -> receipt.
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
               coalesce((s.facts ->> 'created_at')::timestamptz, statement_timestamp()) as received_at,
               -- usually the call is a retry, which says no more about the answer than what is stored
               (s.stored).erased_at is null and jsonb_populate_record(s.stored, s.facts - 'created_at') = s.stored
               and (s.stored).ranks is null and s.facts ?| '{prompt,response,error,status}'
               and turnlog.status_rank(s.facts ->> 'status', s.facts ->> 'error', s.facts ? 'response')
                <= turnlog.status_rank((s.stored).status, (s.stored).error, (s.stored).response is not null) as is_same
          from incoming as s
         where (s.stored).id is not null
           and not rejected ? (s.facts ->> 'session_id') -- a long session that is being erased still has some
        offset 0
    ), decided as materialized (
        select c.position, c.stored, c.received_at, rule.is_older,
               case when c.on_conflict is distinct from 'report' then rule.lost end as lost,
               case when c.on_conflict = 'report' then null else rule.fills end as fills,
               rule.filled, nullif(rule.conflicts || case when c.on_conflict = 'report' then rule.filled end, '{}') as differing
          from compared as c
         cross join lateral (
               select to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, c.facts))
                      - '{project,session_id,id,created_at,erased_at}'::text[] as facts) as i
         cross join lateral turnlog.interaction_rule(
               case when not c.is_same then to_jsonb(c.stored) end, case when not c.is_same then i.facts end, c.on_conflict,
               coalesce((i.facts ->> 'completed_at')::timestamptz, (i.facts ->> 'started_at')::timestamptz,
                        c.received_at)) as rule
    ), kept as materialized (
        select j.position, turnlog.keep_revisions(in_project, (j.stored).session_id, (j.stored).id, j.lost, j.received_at) as revisions
          from decided as j
         where j.lost is not null and (j.fills is not null or j.differing is null)
    ), filled as (
        insert into turnlog.ai_interactions as stored
        select m.*
          from decided as j
         cross join lateral jsonb_populate_record(j.stored, j.fills) as m
         where j.fills is not null
            on conflict (project, session_id, id) do update
           set (key, prompt, response, model, provider, status, error, finish_reason, started_at, completed_at, latency_ms,
                time_to_first_token_ms, input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens,
                cost_usd, participant, reply_to, alternative_to, chosen_at, turn, tags, metadata, ranks) = (
                excluded.key, excluded.prompt, excluded.response, excluded.model, excluded.provider, excluded.status,
                excluded.error, excluded.finish_reason, excluded.started_at, excluded.completed_at, excluded.latency_ms,
                excluded.time_to_first_token_ms, excluded.input_tokens, excluded.output_tokens,
                excluded.cached_input_tokens, excluded.cache_write_tokens, excluded.reasoning_tokens, excluded.cost_usd,
                excluded.participant, excluded.reply_to, excluded.alternative_to, excluded.chosen_at,
                excluded.turn, excluded.tags, excluded.metadata, excluded.ranks)
    ), queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, (j.stored).session_id, array_agg((j.stored).id)
          from decided as j
         where j.fills ?| '{prompt,response}'
         group by (j.stored).session_id
    )
    select jsonb_object_agg(s.position, case
               when j.position is null and rejected ->> (s.facts ->> 'session_id') = 'erased'
                   then '{"receipt": "rejected", "reason": "erased"}'
               -- the row was neither stored nor erased, so another row holds its key
               when j.position is null
                   then turnlog.key_conflict(in_project,
                        (select p ->> 'key' from jsonb_array_elements(rows -> 'sessions') as p
                          where p ->> 'id' = s.facts ->> 'session_id' limit 1),
                        (s.facts ->> 'session_id')::uuid, s.facts ->> 'key')
               when j.differing is not null and j.fills is null
                   then jsonb_build_object('receipt', 'conflict', 'fields', j.differing)
               else case
                        when j.filled <> '{}'
                            then jsonb_build_object('receipt', 'filled', 'fields', j.filled)
                        when k.revisions > 0
                            then '{"receipt": "revised"}'
                        else '{"receipt": "duplicate"}' end
                    || case when j.differing is not null then jsonb_build_object('differs', j.differing) else '{}' end
                    || case when j.is_older then jsonb_build_object('reason', 'older') else '{}' end
           end)
      into receipts
      from incoming as s
      left join decided as j on j.position = s.position
      left join kept as k on k.position = s.position;
    return receipts;
end
$$;
