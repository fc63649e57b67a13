-- Goes through a batch's interactions that were there already, or that it states more than once, in order: what is empty
-- is filled, what contradicts is a conflict. Answers position -> receipt of all but those that the batch created.
create or replace function turnlog.fill_interactions(
    in_project text, rows jsonb, refused jsonb, created_sessions uuid[], created_ids uuid[])
returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = off
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    others bigint[];         -- positions of those that are not new
    unchanged bigint[];      -- of those the ones that say nothing that isn't there
    one record;
    held turnlog.ai_interactions;
    filled turnlog.ai_interactions;
    rule record;
    differing text[];
    receipts jsonb := '{}';
begin
    -- by grouping: a join of two lists of unknown length is planned as a nested loop
    select array_agg(i.position)
      into others
      from (select i.position, row_number() over (partition by i.session_id, i.id order by i.position nulls first) as nth,
                   bool_or(i.position is null) over (partition by i.session_id, i.id) as is_created
              from (select i.session_id, i.id, i.ordinality as position
                      from rows from (jsonb_to_recordset(interactions) as (session_id uuid, id uuid))
                           with ordinality as i
                    union all
                    select n.session_id, n.id, null from unnest(created_sessions, created_ids) as n (session_id, id)) as i) as i
     where i.position is not null and not (i.is_created and i.nth = 2);

    select coalesce(array_agg(same.position), '{}')
      into unchanged
      from (select i.ordinality as position, i.value as facts,
                   (select h from turnlog.ai_interactions as h
                     where h.project = in_project and h.session_id = (i.value ->> 'session_id')::uuid
                       and h.id = (i.value ->> 'id')::uuid) as held
              from jsonb_array_elements(interactions) with ordinality as i
             where i.ordinality = any (others)
            offset 0) as same
     where (same.held).id is not null and (same.held).erased_at is null
       and jsonb_populate_record(same.held, same.facts - 'created_at') = same.held;
    receipts := (select coalesce(jsonb_object_agg(u, '{"receipt": "duplicate"}'::jsonb), '{}') from unnest(unchanged) as u);

    for one in
        select i.ordinality as at, i.value as facts, (i.value ->> 'session_id')::uuid as session_id,
               (i.value ->> 'id')::uuid as id, i.value ->> 'on_conflict' as on_conflict
          from jsonb_array_elements(interactions) with ordinality as i
         where i.ordinality = any (others) and i.ordinality <> all (unchanged)
         order by i.ordinality
    loop
        select i.* into held
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = one.session_id and i.id = one.id;
        if refused ->> one.session_id::text = 'erased' then
            receipts := receipts || jsonb_build_object(one.at, '{"receipt": "rejected", "reason": "erased"}'::jsonb);
            continue;
        elsif held.id is null then
            -- with neither a row of its own nor an erased session it met another row's natural key
            receipts := receipts || jsonb_build_object(one.at, turnlog.key_clash(in_project,
                (select s ->> 'key' from jsonb_array_elements(rows -> 'sessions') as s
                  where (s ->> 'id')::uuid = one.session_id limit 1),
                one.session_id, one.facts ->> 'key'));
            continue;
        end if;
        select r.fills, r.conflicts
          into rule
          from turnlog.fill_rule(
               to_jsonb(held),
               to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, one.facts))
                   - '{project,session_id,id,created_at,erased_at}'::text[]) as r;
        differing := rule.conflicts;
        if one.on_conflict = 'report' then
            differing := nullif(rule.conflicts || array(select f from jsonb_object_keys(rule.fills) as f order by f), '{}');
            rule.fills := null;
        elsif rule.conflicts is not null and one.on_conflict is distinct from 'fill' then
            rule.fills := null;
        end if;
        if rule.fills is not null then
            filled := jsonb_populate_record(held, rule.fills);
            update turnlog.ai_interactions as i
               set (key, prompt, response, model, provider, status, error, finish_reason, started_at, completed_at,
                    latency_ms, time_to_first_token_ms, input_tokens, output_tokens, cost_usd, participant, reply_to,
                    turn, tags, metadata) = (
                   select filled.key, filled.prompt, filled.response, filled.model, filled.provider, filled.status,
                          filled.error, filled.finish_reason, filled.started_at, filled.completed_at, filled.latency_ms,
                          filled.time_to_first_token_ms, filled.input_tokens, filled.output_tokens, filled.cost_usd,
                          filled.participant, filled.reply_to, filled.turn, filled.tags, filled.metadata)
             where i.project = in_project and i.session_id = one.session_id and i.id = one.id;
            if rule.fills ?| '{prompt,response}' then
                insert into turnlog.ai_search_queue (project, session_id, ids)
                values (in_project, one.session_id, array[one.id]);
            end if;
        end if;
        receipts := receipts || jsonb_build_object(one.at, case
            when rule.fills is not null
                then jsonb_build_object('receipt', 'filled', 'fields',
                         array(select f from jsonb_object_keys(rule.fills) as f order by f))
                     || case when differing is not null
                             then jsonb_build_object('differs', differing) else '{}' end
            when differing is not null
                then jsonb_build_object('receipt', 'conflict', 'fields', differing)
            else '{"receipt": "duplicate"}' end);
    end loop;
    return receipts;
end
$$;
