-- Returns an interaction's facts as they are stored. Where its prompt is a list of several messages, or it has a context,
-- what it says is stored in turnlog.ai_messages, the response once it is complete. Then `context_end`, `prompt_end` and
-- `response_end` are the ids of the histories that end with each, `instructions` is the id of the system's messages at the
-- beginning, which may change while the rest stays, and context, prompt and response only say what they are: {} a list,
-- {"as": "text"} a text. Other facts stay.
-- With a `prompt_end` the facts are a stored interaction's, of which only the response may have to be stored; `body`: the
-- messages up to the end of its prompt.
-- `messages`: context and prompt, null if there is nothing to be stored; `first`: how many of them are instructions;
-- `last`: how many are the prompt's, null if they are stored; `bytes`: those of all but the instructions; `answer`: the
-- response's messages. See turnlog.add_messages.
create or replace function turnlog.by_content(
    in_facts jsonb, body jsonb default null,
    out facts jsonb, out messages jsonb, out first integer, out last integer, out bytes bytea, out answer jsonb)
language plpgsql immutable
set search_path = ''
as $$
declare
    as_text constant jsonb := '{"as": "text"}';
    context constant jsonb := nullif(in_facts -> 'context', 'null');
    prompt jsonb := nullif(in_facts -> 'prompt', 'null');
    response constant jsonb := in_facts -> 'response';
    is_text constant boolean := jsonb_typeof(prompt) = 'string';
    prompt_end uuid := in_facts ->> 'prompt_end';
    instructions bytea;
begin
    if prompt_end is null and context is null and (prompt is null or is_text or jsonb_array_length(prompt) < 2) then
        facts := in_facts - 'context';
        return;
    elsif prompt_end is null then
        facts := in_facts - '{context,prompt}'::text[];
        if is_text then
            prompt := jsonb_build_array(jsonb_build_object('role', 'user', 'content', prompt));
        end if;
        messages := case when context is null then prompt when prompt is null then context else context || prompt end;
        last := coalesce(jsonb_array_length(prompt), 0);
        first := 0;
        while messages -> first ->> 'role' in ('system', 'developer')
              and first < jsonb_array_length(coalesce(context, prompt)) loop
            first := first + 1;
        end loop;
        if first = jsonb_array_length(messages) then -- a prompt of instructions alone
            first := 0;
        end if;
        bytes := turnlog.message_bytes(messages);
        if first > 0 then
            instructions := turnlog.message_bytes(
                jsonb_path_query_array(messages, '$[0 to $last]', jsonb_build_object('last', first - 1)));
            bytes := substr(bytes, 3 + octet_length(instructions));
            facts := facts || jsonb_build_object('instructions', turnlog.history_id(instructions));
        end if;
        if context is not null then
            facts := facts || jsonb_build_object('context', '{}'::jsonb, 'context_end', case
                when first = jsonb_array_length(context) then null
                when prompt is null then turnlog.history_id(bytes)
                else turnlog.history_id(substr(
                    bytes, 1, octet_length(bytes) - octet_length(turnlog.message_bytes(prompt)) - 2)) end);
        end if;
        if prompt is not null then
            prompt_end := turnlog.history_id(bytes);
            facts := facts || jsonb_build_object(
                'prompt_end', prompt_end, 'prompt', case when is_text then as_text else '{}' end);
        end if;
    else
        facts := in_facts;
        messages := body;
        bytes := turnlog.message_bytes(body);
    end if;
    -- a response that still grows would leave behind what it was
    if prompt_end is not null and jsonb_typeof(response) in ('string', 'array') and response <> '[]'
       and turnlog.status_rank(in_facts ->> 'status', in_facts ->> 'error', true) = 3 then
        answer := turnlog.as_messages(response);
        facts := facts || jsonb_build_object(
            'response_end', turnlog.history_id(bytes || ', '::bytea || turnlog.message_bytes(answer)),
            'response', case jsonb_typeof(response) when 'string' then as_text else '{}' end);
    end if;
end
$$;
