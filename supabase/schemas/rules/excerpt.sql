-- Returns the first `length` characters of a prompt or a response: of the text, or of the last message that has a text.
create or replace function turnlog.excerpt(content jsonb, length integer) returns text
language sql immutable
set search_path = ''
as $$
    select case jsonb_typeof(content)
        when 'string' then left(content #>> '{}', length)
        when 'array' then (
            select left(m.text, length)
              from (select turnlog.content_of_message(m.value) as said, m.n
                      from jsonb_array_elements(content) with ordinality as m (value, n) offset 0) as e
             cross join lateral (
                   select case jsonb_typeof(e.said)
                       when 'string' then e.said #>> '{}'
                       when 'array' then (
                           select string_agg(p.part ->> 'text', ' ' order by p.n)
                             from jsonb_array_elements(e.said) with ordinality as p (part, n)
                            where jsonb_typeof(p.part -> 'text') = 'string')
                   end) as m (text)
             where m.text <> ''
             order by e.n desc
             limit 1)
    end
$$;
