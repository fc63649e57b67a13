-- Returns slices of a span: one in each of `parts` equal parts, each a `share` of its part. Their positions within the
-- parts differ, so that what happens every hour isn't always met or always missed, and they are the same at each call.
-- A share of 1 returns the whole span as one slice.
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
