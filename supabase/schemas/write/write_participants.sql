-- Writes a batch's participants, below sessions that it has locked. Answers their receipts in order.
create or replace function turnlog.write_participants(in_project text, rows jsonb, refused jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    onward constant text[] := '{reserved,confirmed,joined,left}';
    stated turnlog.ai_session_participants;
    held turnlog.ai_session_participants;
    fields text[];
    receipt jsonb;
    receipts jsonb[] := '{}';
begin
    for stated in select p.* from jsonb_populate_recordset(null::turnlog.ai_session_participants, coalesce(rows -> 'participants', '[]')) as p loop
        if refused ? stated.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', refused -> stated.session_id::text));
            continue;
        end if;
        insert into turnlog.ai_session_participants (project, session_id, participant, role, state, created_at)
        values (in_project, stated.session_id, stated.participant, stated.role, stated.state,
                coalesce(stated.created_at, statement_timestamp()))
            on conflict do nothing;
        if found then
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
            continue;
        end if;
        select p.* into held
          from turnlog.ai_session_participants as p
         where p.project = in_project and p.session_id = stated.session_id and p.participant = stated.participant;
        fields := array_remove(array[
            case when stated.role <> held.role then 'role' end,
            case when array_position(onward, stated.state) < array_position(onward, held.state) then 'state' end], null);
        if fields <> '{}' then
            receipt := jsonb_build_object('receipt', 'conflict', 'fields', fields);
            if 'state' = any (fields) then
                receipt := receipt || jsonb_build_object('reason', format(
                    'A participant''s state moves only forward (reserved, confirmed, joined, left): it is %s, %s would be a step back',
                    held.state, stated.state));
            end if;
        else
            fields := array_remove(array[
                case when held.role is null and stated.role is not null then 'role' end,
                case when stated.state is distinct from held.state and stated.state is not null then 'state' end], null);
            if fields = '{}' then
                receipt := '{"receipt": "duplicate"}';
            else
                update turnlog.ai_session_participants as p
                   set role = coalesce(held.role, stated.role), state = coalesce(stated.state, held.state)
                 where p.project = in_project and p.session_id = stated.session_id and p.participant = stated.participant;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', fields);
            end if;
        end if;
        receipts := array_append(receipts, receipt);
    end loop;
    return to_jsonb(receipts);
end
$$;
