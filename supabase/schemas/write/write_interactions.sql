-- Writes a batch's interactions below sessions that it has locked, queues their texts for the search's index, and notes
-- who takes part. Those that are new go in by one statement. What is said of the others is gone through in order.
-- Answers their receipts in order, or the one word for all of them.
create or replace function turnlog.write_interactions(in_project text, rows jsonb, refused jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    fresh constant turnlog.ai_interactions := jsonb_populate_record(null::turnlog.ai_interactions, jsonb_build_object(
        'project', in_project, 'created_at', statement_timestamp()));
    created_sessions uuid[];
    created_ids uuid[];
    created_keys text[];
    participants boolean;    -- some interaction names who it is of
    receipts jsonb := '{}';  -- position -> receipt, of those that were not new
begin
    with inserted as (
        insert into turnlog.ai_interactions
        select i.*
          from jsonb_populate_recordset(fresh, interactions) as i
         where refused = '{}' or not refused ? i.session_id::text
            on conflict do nothing
        returning session_id, id, key, participant
    ), queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, n.session_id, array_agg(n.id) from inserted as n group by n.session_id
    )
    select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}'),
           coalesce(array_agg(n.key), '{}'), coalesce(bool_or(n.participant is not null), false)
      into created_sessions, created_ids, created_keys, participants
      from inserted as n;

    if cardinality(created_ids) < jsonb_array_length(interactions) then
        receipts := turnlog.fill_interactions(in_project, rows, refused, created_sessions, created_ids, created_keys);
        participants := true;
    end if;
    if participants then
        insert into turnlog.ai_session_participants (project, session_id, participant, created_at)
        select in_project, named.session_id, named.participant, min(named.created_at)
          from (select i.session_id, held.participant, coalesce(i.created_at, statement_timestamp()) as created_at
                  from jsonb_to_recordset(interactions)
                       as i (session_id uuid, id uuid, participant text, created_at timestamptz)
                  join turnlog.ai_interactions as held
                    on held.project = in_project and held.session_id = i.session_id and held.id = i.id
                 where i.participant is not null and held.participant is not null
                   and not refused ? i.session_id::text) as named
         group by named.session_id, named.participant
            on conflict do nothing;
    end if;
    if receipts = '{}' then
        return '"created"';
    end if;
    return (select jsonb_agg(coalesce(receipts -> n::text, '{"receipt": "created"}') order by n)
              from generate_series(1, jsonb_array_length(interactions)) as n);
end
$$;
