-- Writes the interactions of a batch below sessions that it has locked, queues their texts for the search index, and
-- adds their participants. New ones are inserted by one statement; the others are compared with the stored ones.
-- Returns the receipts in order, or 'created' for all of them.
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
    participants boolean;    -- an interaction names a participant
    receipts jsonb := '{}';  -- position -> receipt, without those that were created
begin
    with inserted as (
        insert into turnlog.ai_interactions
        select i.*
          from jsonb_populate_recordset(defaults, interactions) as i
         where rejected = '{}' or not rejected ? i.session_id::text
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
        receipts := turnlog.fill_interactions(in_project, rows, rejected, created_sessions, created_ids, created_keys);
        participants := true;
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
