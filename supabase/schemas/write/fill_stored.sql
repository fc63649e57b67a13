-- Fills stored interactions from the batch's rows at some positions, each of another interaction: see
-- turnlog.interaction_rule. A row that contradicts the stored one changes nothing, unless its `on_conflict` is 'fill' or
-- 'revise', and there are fewer than 100 revisions.
-- Returns position -> receipt.
create or replace function turnlog.fill_stored(in_project text, rows jsonb, rejected jsonb, positions bigint[]) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    stored turnlog.ai_interactions[]; -- parallel to `positions`; null: there is none
    receipts jsonb;
    filled turnlog.ai_interactions[];
    reindexed_sessions uuid[];
    reindexed_ids uuid[];
begin
    -- one lookup by primary key each, and an upsert below: a join would be planned by statistics, and those of an empty
    -- table make it read the whole project
    select array_agg((select h from turnlog.ai_interactions as h
                       where h.project = in_project and h.session_id = (i.facts ->> 'session_id')::uuid
                         and h.id = (i.facts ->> 'id')::uuid) order by p.nth)
      into stored
      from unnest(positions) with ordinality as p (position, nth)
     cross join lateral (select interactions -> (p.position - 1)::integer as facts offset 0) as i;

    with incoming as materialized (
        select p.position, interactions -> (p.position - 1)::integer as facts, p.stored
          from (select unnest(positions) as position, unnest(stored) as stored) as p
    ), compared as (
        select s.position, s.facts, s.stored, s.stored_facts, s.facts ->> 'on_conflict' as on_conflict,
               coalesce((s.facts ->> 'created_at')::timestamptz, statement_timestamp()) as received_at,
               -- usually the call is a retry, which says no more about the answer than what is stored
               case when (s.stored).erased_at is not null then s.facts ? 'erased_at' -- a restored tombstone
                    else jsonb_populate_record(s.stored, s.stored_facts - 'created_at') = s.stored
                         and (s.stored).ranks is null and s.facts ?| '{prompt,response,error,status}'
                         and turnlog.status_rank(s.facts ->> 'status', s.facts ->> 'error', s.facts ? 'response')
                          <= turnlog.status_rank((s.stored).status, (s.stored).error, (s.stored).response is not null)
                    end as is_same
          from (select s.*, (turnlog.by_content(s.facts)).facts as stored_facts from incoming as s offset 0) as s
         where (s.stored).id is not null
           and not rejected ? (s.facts ->> 'session_id') -- a long session that is being erased still has some
        offset 0
    ), decided as materialized (
        select c.position, c.stored, c.was, c.received_at, rule.is_older, rule.revised, c.on_conflict = 'revise' as revises,
               case when c.on_conflict is distinct from 'report' and (c.stored).text_expired_at is null then rule.lost end as lost,
               has.no_room,
               case when c.on_conflict = 'report' or has.no_room then null else rule.fills end as fills,
               rule.filled, nullif(rule.conflicts || case when c.on_conflict = 'report' then rule.filled
                                                          when has.no_room then rule.revised end, '{}') as differing
          from (select c.*, case when not c.is_same then turnlog.as_sent(
                       to_jsonb(c.stored), c.facts, c.stored_facts, coalesce(c.on_conflict = 'revise', false)) end as was
                  from compared as c offset 0) as c
         cross join lateral (
               select to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, c.facts))
                      - '{project,session_id,id,created_at,erased_at,text_expired_at,instructions,context_end,prompt_end,response_end}'::text[]
                      as facts) as i
         cross join lateral turnlog.interaction_rule(
               c.was, case when not c.is_same then i.facts end, c.on_conflict,
               case when c.on_conflict = 'revise' and not c.is_same then turnlog.time_said(c.was, i.facts, c.received_at)
                    else coalesce((i.facts ->> 'completed_at')::timestamptz, (i.facts ->> 'started_at')::timestamptz,
                                  c.received_at) end) as rule
         cross join lateral (
               select rule.revised is not null and not turnlog.revisions_fit(c.was, rule.lost) as no_room) as has
    ), kept as materialized (
        select j.position, turnlog.keep_revisions(
                   in_project, (j.stored).session_id, (j.stored).id, j.lost,
                   case when j.revises then j.was || coalesce(j.fills, '{}') end, j.received_at) as revisions
          from decided as j
         where (j.lost is not null or j.revises and j.fills is not null) and (j.fills is not null or j.differing is null)
    ), changed as materialized (
        select j.position, jsonb_populate_record(j.stored, turnlog.store_content(to_jsonb(j.stored), j.fills)) as row,
               j.fills ?| '{prompt,response}' as is_reindexed
          from decided as j
         where j.fills is not null
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
                        || case when j.no_room
                                then jsonb_build_object('reason', 'It has 100 revisions, which is the most') else '{}' end
               else case
                        when j.revised is not null and (k.revisions > 0 or j.filled <> '{}')
                            then jsonb_build_object('receipt', 'revised', 'fields',
                                 (select jsonb_agg(distinct f order by f) from unnest(j.revised || j.filled) as f))
                        when j.filled <> '{}'
                            then jsonb_build_object('receipt', 'filled', 'fields', j.filled)
                        when k.revisions > 0
                            then '{"receipt": "revised"}'
                        else '{"receipt": "duplicate"}' end
                    || case when j.differing is not null then jsonb_build_object('differs', j.differing) else '{}' end
                    || case when j.is_older then jsonb_build_object('reason', 'older') else '{}' end
           end),
           array_agg(c.row) filter (where c.position is not null),
           array_agg((c.row).session_id) filter (where c.is_reindexed), array_agg((c.row).id) filter (where c.is_reindexed)
      into receipts, filled, reindexed_sessions, reindexed_ids
      from incoming as s
      left join decided as j on j.position = s.position
      left join kept as k on k.position = s.position
      left join changed as c on c.position = s.position;

    if filled is not null then
        insert into turnlog.ai_interactions as stored
        select f.* from unnest(filled) as f
            on conflict (project, session_id, id) do update
           set (key, prompt, response, context, instructions, context_end, prompt_end, response_end, model, provider, status, error,
                finish_reason,
                started_at, completed_at, latency_ms, time_to_first_token_ms, input_tokens, output_tokens,
                cached_input_tokens, cache_write_tokens, reasoning_tokens, cost_usd, participant, reply_to,
                alternative_to, chosen_at, turn, trace_id, span_id, tags, metadata, ranks) = (
                excluded.key, excluded.prompt, excluded.response, excluded.context, excluded.instructions,
                excluded.context_end, excluded.prompt_end, excluded.response_end, excluded.model, excluded.provider, excluded.status, excluded.error,
                excluded.finish_reason, excluded.started_at, excluded.completed_at, excluded.latency_ms,
                excluded.time_to_first_token_ms, excluded.input_tokens, excluded.output_tokens,
                excluded.cached_input_tokens, excluded.cache_write_tokens, excluded.reasoning_tokens, excluded.cost_usd,
                excluded.participant, excluded.reply_to, excluded.alternative_to, excluded.chosen_at,
                excluded.turn, excluded.trace_id, excluded.span_id, excluded.tags, excluded.metadata, excluded.ranks);
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, r.session_id, array_agg(r.id)
          from unnest(reindexed_sessions, reindexed_ids) as r (session_id, id)
         group by r.session_id;
    end if;
    return receipts;
end
$$;
