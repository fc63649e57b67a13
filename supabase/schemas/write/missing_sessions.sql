-- Returns the rows with which to insert the sessions of a batch that aren't `known`. Of several rows of one session,
-- the first explicit one counts, else the first with a key. Of a session whose number another one holds, only the key
-- is taken, and only if the batch has a child of it. A session begins with the earliest of its interactions, of which
-- the first row is the one that will be inserted. If several claim one session, a row without a claim wins (the
-- service itself), then the first; rows with another claim are ignored.
create or replace function turnlog.missing_sessions(rows jsonb, known uuid[]) returns setof jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    with children as materialized (
        select c.session_id, c.claim, c.created_at, c.nth, c.ordinality, c.id, c.started_at
          from (select i.session_id, i.claim, i.created_at, 3 as nth, i.ordinality, i.id, i.started_at
                  from rows from (jsonb_to_recordset(rows -> 'interactions')
                           as (session_id uuid, claim text, created_at text, id uuid, started_at timestamptz)) with ordinality as i
                union all
                select p.session_id, p.claim, p.created_at, 2, p.ordinality, null, null
                  from rows from (jsonb_to_recordset(rows -> 'participants')
                           as (session_id uuid, claim text, created_at text)) with ordinality as p
                union all
                select f.session_id, f.claim, f.created_at, 4, f.ordinality, null, null
                  from rows from (jsonb_to_recordset(rows -> 'feedback')
                           as (session_id uuid, claim text, created_at text)) with ordinality as f) as c
         where c.session_id <> all (known)
    ), dated as (
        select i.session_id, min(i.at) as earliest_turn_at
          from (select distinct on (c.session_id, c.id) c.session_id,
                       least(c.started_at, coalesce(c.created_at::timestamptz, statement_timestamp())) as at
                  from children as c
                 where c.nth = 3
                 order by c.session_id, c.id, c.ordinality) as i
         group by i.session_id
    ), incoming as materialized (
        select (s.value ->> 'id')::uuid as id, s.value, s.ordinality,
               coalesce(rows -> 'numbers_taken' @> to_jsonb(s.ordinality), false) as number_is_taken
          from jsonb_array_elements(coalesce(rows -> 'sessions', '[]')) with ordinality as s
         where (s.value ->> 'id')::uuid <> all (known)
    ), claims as (
        select distinct on (c.session_id) c.session_id, c.claim
          from (select s.id as session_id, s.value ->> 'claim' as claim, 1 as nth, s.ordinality from incoming as s
                union all
                select c.session_id, c.claim, c.nth, c.ordinality from children as c) as c
         order by c.session_id, c.claim is not null, c.nth, c.ordinality
    ), facts as (
        select distinct on (f.id) f.id, f.claim, f.facts
          from (select s.id, s.value ->> 'claim' as claim, s.value - '{numbering,folder_position,plan_index}'::text[] as facts,
                       s.ordinality
                  from incoming as s where not s.number_is_taken
                union all
                select s.id, s.value ->> 'claim', jsonb_build_object('id', s.id, 'implicit', true)
                             || case when s.value ? 'key' then jsonb_build_object('key', s.value -> 'key') else '{}' end
                             || case when s.value ? 'created_at'
                                     then jsonb_build_object('created_at', s.value -> 'created_at') else '{}' end,
                       s.ordinality
                  from incoming as s
                 where s.number_is_taken and s.id in (select c.session_id from children as c)
                union all
                select c.session_id, c.claim, jsonb_build_object('id', c.session_id, 'implicit', true)
                             || case when c.created_at is null then '{}'
                                     else jsonb_build_object('created_at', c.created_at) end, null
                  from children as c) as f
          join claims as c on c.session_id = f.id and c.claim is not distinct from f.claim
         order by f.id, coalesce((f.facts ->> 'implicit')::boolean, false), not f.facts ? 'key', f.ordinality
    )
    select case when f.claim like 'user:%' then jsonb_build_object('user_id', substr(f.claim, 6)) else '{}' end
           || (f.facts - 'claim')
           || case when f.claim like 'token:%' then jsonb_build_object('claim', f.claim) else '{}' end
           || case when d.session_id is null then '{}' -- calls of spans aren't among the children yet, see turnlog.place_spans
                   else jsonb_build_object('earliest_turn_at', d.earliest_turn_at) end
      from facts as f
      left join dated as d on d.session_id = f.id;
end
$$;
