-- Slices of a span: `parts` equal parts of it, and of each a piece that is `share` of its length. Where in its part a
-- piece lies differs from part to part, so that what happens each hour isn't always met or always missed; it is the
-- same with each look. A share of 1 is the whole span, in one slice.
create or replace function turnlog.slices(
    not_before timestamptz, before timestamptz, parts integer, share double precision,
    out first timestamptz, out last timestamptz)
returns setof record
language sql immutable
set search_path = ''
as $$
    select not_before, before where share >= 1
    union all
    select piece.first, piece.first + share * (before - not_before) / parts
      from generate_series(0, parts - 1) as p (n)
     -- multiples of the golden ratio spread evenly
     cross join lateral (
           select not_before + (before - not_before) / parts
                  * (p.n + (p.n * 0.6180339887498949 % 1)::double precision * (1 - share)) as first) as piece
     where share < 1
$$;
