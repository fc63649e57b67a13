-- Writes the participants of a batch below sessions that it has locked. Returns the receipts in order.
create or replace function turnlog.write_participants(in_project text, rows jsonb, rejected jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    states_in_order constant text[] := '{reserved,confirmed,joined,left}';
    incoming turnlog.ai_session_participants;
    stored turnlog.ai_session_participants;
    fields text[];
    receipt jsonb;
    receipts jsonb[] := '{}';
begin
    for incoming in select p.* from jsonb_populate_recordset(null::turnlog.ai_session_participants, coalesce(rows -> 'participants', '[]')) as p loop
        if rejected ? incoming.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', rejected -> incoming.session_id::text));
            continue;
        end if;
        insert into turnlog.ai_session_participants (project, session_id, participant, role, state, created_at)
        values (in_project, incoming.session_id, incoming.participant, incoming.role, incoming.state,
                coalesce(incoming.created_at, statement_timestamp()))
            on conflict do nothing;
        if found then
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
            continue;
        end if;
        select p.* into stored
          from turnlog.ai_session_participants as p
         where p.project = in_project and p.session_id = incoming.session_id and p.participant = incoming.participant;
        fields := array_remove(array[
            case when incoming.role <> stored.role then 'role' end,
            case when array_position(states_in_order, incoming.state) < array_position(states_in_order, stored.state) then 'state' end], null);
        if fields <> '{}' then
            receipt := jsonb_build_object('receipt', 'conflict', 'fields', fields);
            if 'state' = any (fields) then
                receipt := receipt || jsonb_build_object('reason', format(
                    'A participant''s state moves only forward (reserved, confirmed, joined, left): it is %s, %s would be a step back',
                    stored.state, incoming.state));
            end if;
        else
            fields := array_remove(array[
                case when stored.role is null and incoming.role is not null then 'role' end,
                case when incoming.state is distinct from stored.state and incoming.state is not null then 'state' end], null);
            if fields = '{}' then
                receipt := '{"receipt": "duplicate"}';
            else
                update turnlog.ai_session_participants as p
                   set role = coalesce(stored.role, incoming.role), state = coalesce(incoming.state, stored.state)
                 where p.project = in_project and p.session_id = incoming.session_id and p.participant = incoming.participant;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', fields);
            end if;
        end if;
        receipts := array_append(receipts, receipt);
    end loop;
    return to_jsonb(receipts);
end
$$;
