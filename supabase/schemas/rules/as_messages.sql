-- Returns a response as a list of messages: a text is one message of the assistant.
create or replace function turnlog.as_messages(response jsonb) returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select case jsonb_typeof(response)
        when 'string' then jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', response))
        else response end
$$;
