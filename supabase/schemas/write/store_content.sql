-- Returns the fields that fill a stored interaction, a row as jsonb, as they are to be stored, and stores the messages that
-- it gains: see turnlog.by_content. The caller holds the session's lock.
create or replace function turnlog.store_content(stored jsonb, fills jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    in_project constant text := stored ->> 'project';
    of_session constant uuid := stored ->> 'session_id';
    facts jsonb;
    body jsonb;
    changed record;
begin
    if fills ? 'context' or fills ? 'prompt' and (
           jsonb_typeof(fills -> 'prompt') = 'array' or stored -> 'context' <> 'null' or stored ->> 'prompt_end' is not null) then
        facts := turnlog.as_sent(stored, '{"context": true}', '{}', true)
            || '{"instructions": null, "context_end": null, "prompt_end": null, "response_end": null}';
    elsif stored ->> 'prompt_end' is not null
          and jsonb_typeof(coalesce(fills -> 'response', stored -> 'response')) in ('string', 'array') then
        facts := stored || '{"response_end": null}';
        body := turnlog.messages(
            in_project, of_session, (stored ->> 'prompt_end')::uuid, null, (stored ->> 'response_end')::uuid);
    else
        return fills;
    end if;
    changed := turnlog.by_content(facts || fills, body);
    if coalesce(changed.messages, changed.answer) is not null then
        perform turnlog.add_messages(
            in_project, changed.facts, changed.messages, changed.first, changed.last, changed.bytes, changed.answer);
    end if;
    return changed.facts;
end
$$;
