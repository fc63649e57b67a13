-- The text of a prompt or a response. Of a list of messages: what they say, and the tools that they call with what.
create or replace function turnlog.plain_text(said jsonb) returns text
language plpgsql immutable parallel safe -- a tenth of what a call of SQL takes, where it is a text
set search_path = ''
as $$
begin
    if jsonb_typeof(said) = 'string' then
        return said #>> '{}';
    end if;
    return (
        select string_agg(case jsonb_typeof(part.value) when 'string' then part.value #>> '{}' else part.value::text end,
                          E'\n' order by message.n, part.kind, part.n)
          from jsonb_array_elements(said) with ordinality as message (value, n)
         cross join lateral (
               select 1 as kind, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content ? (@.type() == "string")') with ordinality as said (value, n)
               union all
               select 2, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content[*].text ? (@.type() == "string")')
                      with ordinality as said (value, n)
               union all
               select 3, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content[*].content ? (@.type() == "string")')
                      with ordinality as said (value, n)
               union all
               select 4, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.name') with ordinality as called (value, n)
               union all
               select 5, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.arguments')
                      with ordinality as called (value, n)) as part);
end
$$;
