-- The beginning of what was said: a text, or the last message of a list that has one.
create or replace function turnlog.excerpt(said jsonb, length integer) returns text
language sql immutable
set search_path = ''
as $$
    select case jsonb_typeof(said)
        when 'string' then left(said #>> '{}', length)
        when 'array' then (
            select left(m.text, length)
              from jsonb_array_elements(said) with ordinality as e (message, n)
             cross join lateral (
                   select case jsonb_typeof(e.message -> 'content')
                       when 'string' then e.message ->> 'content'
                       when 'array' then (
                           select string_agg(p.part ->> 'text', ' ' order by p.n)
                             from jsonb_array_elements(e.message -> 'content') with ordinality as p (part, n)
                            where jsonb_typeof(p.part -> 'text') = 'string')
                   end) as m (text)
             where m.text <> ''
             order by e.n desc
             limit 1)
    end
$$;
