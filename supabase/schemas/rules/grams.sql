-- Returns all distinct sequences of three bytes in a folded text's UTF-8, each as a number: one Chinese character, two
-- Arabic letters, three English ones. So it serves any script without an extension. Null for a text of fewer than 3
-- bytes.
create or replace function turnlog.grams(folded text) returns integer[]
language sql immutable parallel safe
set search_path = ''
as $$
    select array_agg(distinct_grams.gram)
      from (select distinct get_byte(bytes.text, n) << 16 | get_byte(bytes.text, n + 1) << 8 | get_byte(bytes.text, n + 2) as gram
              from (select convert_to(folded, 'UTF8') as text offset 0) as bytes, -- `offset 0`: convert once, not for each byte
                   generate_series(0, octet_length(folded) - 3) as n) as distinct_grams
$$;
