-- Stores those messages of an interaction that its session doesn't have. Takes what turnlog.by_content returned. The
-- caller holds the session's lock.
-- A response of one message shares a row with its prompt, if that has none: then only the history that the response ends
-- is stored, and the prompt's is all of it but its last message.
create or replace function turnlog.add_messages(
    in_project text, facts jsonb, messages jsonb, first integer, last integer, bytes bytea, answer jsonb)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    of_session constant uuid := facts ->> 'session_id';
    context_end constant uuid := facts ->> 'context_end';
    prompt_end constant uuid := facts ->> 'prompt_end';
    response_end constant uuid := facts ->> 'response_end';
    -- where messages begin that go on from `base`
    start constant integer := case when last is null then 0 when context_end is null then first
                                   else jsonb_array_length(messages) - last end;
    base constant uuid := case when last is not null then context_end end;
    has_prompt constant boolean := exists (
        select from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = of_session and m.id = prompt_end);
begin
    if first > 0 then
        perform turnlog.add_history(in_project, of_session, (facts ->> 'instructions')::uuid, messages, 0, first);
    end if;
    if context_end is not null and last is not null then
        perform turnlog.add_history(
            in_project, of_session, context_end, messages, first, jsonb_array_length(messages) - last, bytes);
    end if;
    if not has_prompt and jsonb_array_length(answer) = 1 then
        perform turnlog.add_history(
            in_project, of_session, response_end, messages || answer, start, jsonb_array_length(messages) + 1,
            case when base is null then bytes || ', '::bytea || turnlog.message_bytes(answer) end, base, true);
        return;
    end if;
    if not has_prompt and prompt_end is not null then
        perform turnlog.add_history(in_project, of_session, prompt_end, messages, start, jsonb_array_length(messages),
                                    case when base is null then bytes end, base);
    end if;
    if answer is not null then
        perform turnlog.add_history(
            in_project, of_session, response_end, answer, 0, jsonb_array_length(answer), base => prompt_end);
    end if;
end
$$;
