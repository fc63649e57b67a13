-- All that stands in a folded text by three bytes of UTF-8, each as a number, once: one character of Chinese, two letters
-- of Arabic, three of English. So it serves any script, and needs no extension. Null of less than three bytes.
create or replace function turnlog.grams(folded text) returns integer[]
language sql immutable parallel safe
set search_path = ''
as $$
    select array_agg(distinct_grams.gram)
      from (select distinct get_byte(bytes.said, n) << 16 | get_byte(bytes.said, n + 1) << 8 | get_byte(bytes.said, n + 2) as gram
              from (select convert_to(folded, 'UTF8') as said offset 0) as bytes, -- else it is converted for each byte
                   generate_series(0, octet_length(folded) - 3) as n) as distinct_grams
$$;
