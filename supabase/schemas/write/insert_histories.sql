-- Inserts the interactions of a batch that has lists of messages, those that aren't stored, with their messages: see
-- turnlog.by_content. One at a time, so that a list is copied as rarely as may be: it can be a whole conversation.
-- Returns those that it created; `at`: when each was said.
create or replace function turnlog.insert_histories(
    in_project text, interactions jsonb, rejected jsonb)
returns table (session_id uuid, id uuid, key text, participant text, at timestamptz)
language plpgsql volatile
set search_path = ''
as $$
declare
    defaults constant turnlog.ai_interactions := jsonb_populate_record(null::turnlog.ai_interactions, jsonb_build_object(
        'project', in_project, 'created_at', statement_timestamp()));
    interaction jsonb;
    stored record;
begin
    for interaction in select i.value from jsonb_array_elements(interactions) as i loop
        continue when rejected ? (interaction ->> 'session_id');
        stored := turnlog.by_content(interaction);
        insert into turnlog.ai_interactions as created
        select i.* from jsonb_populate_record(defaults, stored.facts) as i
            on conflict do nothing
        returning created.session_id, created.id, created.key, created.participant, least(created.started_at, created.created_at)
             into session_id, id, key, participant, at;
        if found then
            if stored.messages is not null then
                perform turnlog.add_messages(
                    in_project, stored.facts, stored.messages, stored.first, stored.last, stored.bytes, stored.answer);
            end if;
            return next;
        end if;
    end loop;
end
$$;
