-- Returns a prompt or a response as a list of messages: a text is one message of `role`.
create or replace function turnlog.as_messages(content jsonb, role text default 'assistant') returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
    select case jsonb_typeof(content)
        when 'string' then jsonb_build_array(jsonb_build_object('role', role, 'content', content))
        else content end
$$;
