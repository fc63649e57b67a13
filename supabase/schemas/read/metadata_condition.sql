-- Returns the filter by metadata of a list's request as SQL on a session `s`, in which `$1` is the request; null without
-- one. For each key, `metadata` has the objects of which one must be contained: a text may mean a number or a boolean.
create or replace function turnlog.metadata_condition(request jsonb) returns text
language sql immutable
set search_path = ''
as $$
    select string_agg(key.condition, ' and ')
      from (select '(' || string_agg(format('s.metadata @> ($1 #> ''{metadata,%s,%s}'')', k.n - 1, v.n - 1), ' or ') || ')' as condition
              from jsonb_array_elements(request -> 'metadata') with ordinality as k (forms, n)
             cross join lateral jsonb_array_elements(k.forms) with ordinality as v (form, n)
             group by k.n) as key
$$;
