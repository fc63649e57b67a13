-- Writes the interactions of a batch below sessions that it has locked, queues their texts for the search index, moves
-- sessions to an earlier turn, and adds participants. New ones are inserted by one statement; the others are compared
-- with the stored ones. Returns the receipts in order, or 'created' for all of them.
create or replace function turnlog.write_interactions(in_project text, rows jsonb, rejected jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    defaults constant turnlog.ai_interactions := jsonb_populate_record(null::turnlog.ai_interactions, jsonb_build_object(
        'project', in_project, 'created_at', statement_timestamp()));
    created_sessions uuid[];
    created_ids uuid[];
    created_keys text[];
    created_times timestamptz[];  -- when each was said
    earlier_sessions uuid[]; -- sessions that begin earlier now
    earlier_times timestamptz[];
    participants boolean;    -- an interaction names a participant
    receipts jsonb := '{}';  -- position -> receipt, without those that were created
begin
    if interactions @? '$[*].prompt[1]' or interactions @? '$[*].context' then
        select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}'), coalesce(array_agg(n.key), '{}'),
               coalesce(array_agg(n.at), '{}'), coalesce(bool_or(n.participant is not null), false)
          into created_sessions, created_ids, created_keys, created_times, participants
          from turnlog.insert_histories(in_project, interactions, rejected) as n;
    else
        with inserted as (
            insert into turnlog.ai_interactions
            select i.*
              from jsonb_populate_recordset(defaults, interactions) as i
             where rejected = '{}' or not rejected ? i.session_id::text
                on conflict do nothing
            returning session_id, id, key, participant, least(started_at, created_at) as at
        )
        select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}'), coalesce(array_agg(n.key), '{}'),
               coalesce(array_agg(n.at), '{}'), coalesce(bool_or(n.participant is not null), false)
          into created_sessions, created_ids, created_keys, created_times, participants
          from inserted as n;
    end if;
    with queued as (
        insert into turnlog.ai_search_queue (project, session_id, ids)
        select in_project, n.session_id, array_agg(n.id)
          from unnest(created_sessions, created_ids) as n (session_id, id)
         group by n.session_id
    ), earlier as (
        select n.session_id, min(n.at) as at
          from unnest(created_sessions, created_times) as n (session_id, at)
         group by n.session_id
        having min(n.at) < coalesce((select s.earliest_turn_at from turnlog.ai_sessions as s
                                      where s.project = in_project and s.id = n.session_id), 'infinity')
    )
    select array_agg(e.session_id), array_agg(e.at) into earlier_sessions, earlier_times from earlier as e;

    if cardinality(created_ids) < jsonb_array_length(interactions) then
        receipts := turnlog.fill_interactions(in_project, rows, rejected, created_sessions, created_ids, created_keys);
        participants := true;
        -- a start that was filled in may be the earliest
        select earlier_sessions || array_agg(i.session_id), earlier_times || array_agg(least(i.started_at, i.created_at))
          into earlier_sessions, earlier_times
          from jsonb_each(receipts) as r
         cross join lateral (
               select i.session_id, i.started_at, i.created_at from turnlog.ai_interactions as i
                where i.project = in_project
                  and i.session_id = (interactions -> (r.key::integer - 1) ->> 'session_id')::uuid
                  and i.id = (interactions -> (r.key::integer - 1) ->> 'id')::uuid
               offset 0) as i
         where r.value -> 'fields' ? 'started_at';
    end if;
    if interactions @? '$[*].revisions' then
        perform turnlog.restore_revisions(in_project, interactions, rejected, receipts);
    end if;
    if earlier_sessions is not null then
        perform turnlog.date_sessions(in_project, earlier_sessions, earlier_times);
    end if;
    if participants then
        insert into turnlog.ai_session_participants (project, session_id, participant, created_at)
        select in_project, named.session_id, named.participant, min(named.created_at)
          from (select i.session_id, stored.participant, coalesce(i.created_at, statement_timestamp()) as created_at
                  from jsonb_to_recordset(interactions)
                       as i (session_id uuid, id uuid, participant text, created_at timestamptz)
                  join turnlog.ai_interactions as stored
                    on stored.project = in_project and stored.session_id = i.session_id and stored.id = i.id
                 where i.participant is not null and stored.participant is not null
                   and not rejected ? i.session_id::text) as named
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
