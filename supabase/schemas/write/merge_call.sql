-- Returns a call as its spans and their log events say it, and the fields that differ from what is stored: of each field,
-- and of each key of the metadata, the value of the first that says it, in the order of `members` and before log events.
-- What somebody else has said of a stored call comes before all of them, and what is stored before what is said again.
-- `call` as in turnlog.place_spans; `stored`: [{session_id, id, facts}]; `said`: [{ref, source, facts, created_at}].
create or replace function turnlog.merge_call(call jsonb, stored jsonb, said jsonb, out merged jsonb, out filled text[])
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    before jsonb;
begin
    with sources as materialized (
        select m.value ->> 'ref' as ref, m.value ->> 'session_id' as session_id, m.value ->> 'id' as id,
               m.ordinality * 4 + case f.source when 'span' then 0 else 2 end as rank, f.source, f.fields
          from jsonb_array_elements(call -> 'members') with ordinality as m
         cross join lateral (values ('span', m.value -> 'fields'), ('events', m.value -> 'event_fields')) as f (source, fields)
    ), statements as (
        select e.key, e.value, coalesce((
                   select min(s.rank) from sources as s
                    where s.session_id = i.value ->> 'session_id' and s.id = i.value ->> 'id' and s.fields ? e.key), -1) as rank,
               i.ordinality as n
          from jsonb_array_elements(stored) with ordinality as i
         cross join lateral turnlog.flat_fields(i.value -> 'facts') as e (key, value)
        union all
        select e.key, e.value, s.rank + 1, b.ordinality
          from jsonb_array_elements(said) with ordinality as b
          join sources as s on s.ref = b.value ->> 'ref' and s.source = b.value ->> 'source'
         cross join lateral turnlog.flat_fields(b.value -> 'facts') as e (key, value)
    ), chosen as (
        select distinct on (s.key) s.key, s.value
          from statements as s
         where s.key not in ('created_at', 'tags', 'ranks', 'participant', 'trace_id', 'span_id')
         order by s.key, s.rank, s.n
    )
    select coalesce(jsonb_object_agg(c.key, c.value) filter (where c.key not like 'metadata.%'), '{}')
           || case when bool_or(c.key like 'metadata.%') then jsonb_build_object(
                  'metadata', jsonb_object_agg(substr(c.key, 10), c.value) filter (where c.key like 'metadata.%'))
                   else '{}' end
           || jsonb_strip_nulls(jsonb_build_object(
                  'tags', (select jsonb_agg(distinct t.tag order by t.tag)
                             from statements as s cross join lateral jsonb_array_elements(s.value) as t (tag)
                            where s.key = 'tags')))
      into merged
      from chosen as c;
    merged := merged || jsonb_build_object('created_at', (
        select min(t.at) from (
            select (i.value #>> '{facts,created_at}')::timestamptz as at from jsonb_array_elements(stored) as i
             union all
            select (b.value ->> 'created_at')::timestamptz from jsonb_array_elements(said) as b) as t));
    if said is null and jsonb_array_length(stored) = 1 then -- it only moves
        merged := stored #> '{0,facts}';
        filled := '{}';
        return;
    end if;
    before := stored #> '{0,facts}';
    filled := array(
        select f.key from jsonb_each(merged) as f
         where f.value is distinct from before -> f.key and f.key not in ('created_at', 'tags')
            or f.key = 'tags' and not coalesce(before -> 'tags', '[]') @> f.value
         order by f.key);
    if filled = '{}' and jsonb_array_length(stored) > 1 then
        filled := '{metadata}'; -- two became one
    end if;
end
$$;
