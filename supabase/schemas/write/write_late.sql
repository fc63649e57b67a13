-- Writes a batch that has waited in a spool as turnlog.write_v2 does, but for what was received before its user was
-- erased: those rows are rejected as erased. A session that is said to be theirs, and that nobody has seen before, leaves
-- a tombstone, so that whatever else of it arrives, without their name on it, is rejected, too. Who only claims a session
-- may claim somebody else's: what a user claims leaves none, each row tells its claimant; and what a token claims leaves
-- none where some row of the batch names the session without that claim.
--
-- These tombstones are locked before what the batch locks in its own order: two such batches may deadlock, and the one
-- that fails is written again.
create or replace function turnlog.write_late(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s'
as $$
declare
    in_project constant text := batch ->> 'project';
    kinds constant text[] := '{folders,sessions,participants,interactions}';
    refused jsonb;  -- kind -> positions
    theirs uuid[];  -- sessions that the batch says are an erased user's, as of before
    until jsonb;    -- of those that the service itself says it of: when the user was erased
    one uuid;
    passed jsonb;
    receipts jsonb;
begin
    if not exists (select from turnlog.ai_erased_users as e where e.project = in_project) then
        return turnlog.write_v2(batch);
    end if;

    with stated as (
        select k.kind, e.ordinality as position, (e.value ->> 'created_at')::timestamptz as received_at,
               case when k.kind <> 'folders' then coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid end as session_id,
               case when k.kind = 'folders' then (e.value ->> 'id')::uuid end as folder_id,
               e.value ->> case when k.kind in ('folders', 'sessions') then 'user_id' else 'participant' end as who,
               case when e.value ->> 'claim' like 'user:%' then substr(e.value ->> 'claim', 6) end as claimant,
               e.value ->> 'claim' as claim
          from unnest(kinds) as k (kind)
         cross join lateral jsonb_array_elements(coalesce(batch -> k.kind, '[]')) with ordinality as e
    ), claims as (
        select distinct s.session_id, s.claim from stated as s where s.session_id is not null
        union
        select (p.value ->> 'id')::uuid, null
          from jsonb_array_elements(coalesce(batch -> 'folders', '[]')) as f
         cross join lateral jsonb_array_elements(coalesce(f.value -> 'sessions', '[]')) as p
    ), disputed as materialized (
        select c.session_id from claims as c group by c.session_id having count(*) > 1
    ), named as (
        -- with whom the store says that its session is
        select s.*, (select held.user_id from turnlog.ai_sessions as held
                      where held.project = in_project and held.id = s.session_id) as known
          from stated as s
    ), gone as materialized (
        select w.who, e.erased_at
          from (select n.who from named as n union select n.claimant from named as n
                union select n.known from named as n) as w
          join turnlog.ai_erased_users as e
            on e.project = in_project and e.user_hash = turnlog.user_hash(in_project, w.who)
    ), weighed as (
        select n.kind, n.position, n.session_id,
               exists (select from gone as g
                        where g.who in (n.who, n.claimant, n.known) and n.received_at <= g.erased_at)
               or exists (select from turnlog.ai_session_folders as f
                           where f.project = in_project and f.id = n.folder_id and n.received_at <= f.erased_at) as is_refused,
               n.kind = 'sessions'
               and (n.claim is null
                    or n.claimant is null and n.session_id not in (select d.session_id from disputed as d))
               and exists (select from gone as g where g.who = n.who and n.received_at <= g.erased_at) as is_theirs,
               -- who claims a session doesn't say of somebody else's whose it is
               (select max(g.erased_at) from gone as g
                 where n.kind = 'sessions' and g.who = n.who and n.claim is null
                   and n.received_at <= g.erased_at) as theirs_until
          from named as n
    )
    select jsonb_object_agg(k.kind, coalesce(r.positions, '[]')),
           coalesce((select array_agg(distinct w.session_id order by w.session_id) from weighed as w where w.is_theirs), '{}'),
           (select jsonb_object_agg(w.session_id, w.theirs_until) from weighed as w where w.theirs_until is not null)
      into refused, theirs, until
      from unnest(kinds) as k (kind)
     cross join lateral (
           select jsonb_agg(w.position) as positions from weighed as w where w.kind = k.kind and w.is_refused) as r;

    insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
    select in_project, t.id, true, statement_timestamp(), statement_timestamp()
      from unnest(theirs) as t (id)
     order by t.id
        on conflict do nothing;
    -- what of it came earlier, before anybody had said whose it is
    for one in
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (theirs) and s.erased_at is null and s.user_id is null
           and s.claim is null and s.created_at <= (until ->> s.id::text)::timestamptz
         order by s.id
    loop
        perform turnlog.erase(jsonb_build_object('project', in_project, 'session_id', one));
    end loop;

    select jsonb_object_agg(k.kind, coalesce(r.rows, '[]'))
      into passed
      from unnest(kinds) as k (kind)
     cross join lateral (
           select jsonb_agg(e.value order by e.ordinality) as rows
             from jsonb_array_elements(coalesce(batch -> k.kind, '[]')) with ordinality as e
            where not refused -> k.kind @> to_jsonb(e.ordinality)) as r;
    receipts := turnlog.write_v2(batch || passed);
    return (
        select jsonb_object_agg(k.kind, coalesce(r.receipts, '[]'))
          from unnest(kinds) as k (kind)
         cross join lateral (
               select jsonb_agg(case when w.is_refused then '{"receipt": "rejected", "reason": "erased"}'::jsonb
                                     else receipts -> k.kind -> (w.place - 1)::integer end
                                order by w.ordinality) as receipts
                 from (select e.ordinality, p.is_refused,
                              count(*) filter (where not p.is_refused) over (order by e.ordinality) as place
                         from jsonb_array_elements(coalesce(batch -> k.kind, '[]')) with ordinality as e
                        cross join lateral (
                              select refused -> k.kind @> to_jsonb(e.ordinality) as is_refused) as p) as w) as r);
end
$$;
