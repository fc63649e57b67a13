-- Returns a stored interaction, a row as jsonb, as it is compared with facts that came for it: prompt, context and response
-- are as they were sent, where the facts have them, and with `whole` all of them. `stored_facts`: the facts as
-- turnlog.by_content returns them. A history of the same id is the same, also where a message of it was erased.
create or replace function turnlog.as_sent(stored jsonb, facts jsonb, stored_facts jsonb, whole boolean) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    in_project constant text := stored ->> 'project';
    of_session constant uuid := stored ->> 'session_id';
    instructions constant uuid := stored ->> 'instructions';
    context_end constant uuid := stored ->> 'context_end';
    prompt_end constant uuid := stored ->> 'prompt_end';
    response_end constant uuid := stored ->> 'response_end';
    has_context constant boolean := stored -> 'context' <> 'null';
    same_context constant boolean := (stored ->> 'context', instructions, context_end) is not distinct from (
        stored_facts ->> 'context', (stored_facts ->> 'instructions')::uuid, (stored_facts ->> 'context_end')::uuid);
begin
    if prompt_end is null and not has_context then
        return stored - '{instructions,context_end,prompt_end,response_end}'::text[];
    end if;
    return stored - '{instructions,context_end,prompt_end,response_end}'::text[] || jsonb_build_object(
        'context', case
            when facts -> 'context' is null or not has_context then stored -> 'context'
            when same_context then facts -> 'context'
            else turnlog.content(stored -> 'context', in_project, of_session, context_end, null, null, instructions) end,
        'prompt', case
            when facts -> 'prompt' is null and not whole then stored -> 'prompt'
            when same_context and prompt_end = (stored_facts ->> 'prompt_end')::uuid
                 and stored -> 'prompt' = stored_facts -> 'prompt' then facts -> 'prompt'
            else turnlog.content(stored -> 'prompt', in_project, of_session, prompt_end, context_end, response_end,
                                 case when not has_context then instructions end) end,
        'response', turnlog.content(
            stored -> 'response', in_project, of_session, response_end, prompt_end));
end
$$;
