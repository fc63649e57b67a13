-- Returns the content of a message by the name that its SDK has for it. The `parts` of the AI SDK and of Gemini win over
-- a text that repeats them.
create or replace function turnlog.content_of_message(message jsonb) returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select case when jsonb_typeof(message -> 'parts') = 'array' then message -> 'parts'
                else coalesce(message -> 'content', message -> 'value', message -> 'text') end
$$;
