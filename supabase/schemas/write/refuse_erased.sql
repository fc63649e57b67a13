-- The rows of a batch that waited in a spool and was received before its user was erased: kind -> position -> receipt.
-- A session that is said to be theirs, and that nobody has seen before, leaves a tombstone, so that whatever else of it
-- arrives, without their name on it, is rejected, too. Who only claims a session may claim somebody else's: what a user
-- claims leaves none, each row names its claimant; and what a token claims leaves none where some row of the batch names
-- the session without that claim.
--
-- These tombstones are locked before what the batch locks in its own order: two such batches may deadlock, and the one
-- that fails is written again.
create or replace function turnlog.refuse_erased(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    kinds constant text[] := '{folders,sessions,participants,interactions,feedback}';
    secret constant bytea := (select p.secret from turnlog.ai_projects as p where p.project = in_project);
    refused jsonb;
    theirs uuid[];  -- sessions that the batch says are an erased user's, as of before
    until jsonb;    -- of those that the service itself says it of: when the user was erased
    one uuid;
begin
    with stated as (
        select k.kind, e.ordinality as position, (e.value ->> 'created_at')::timestamptz as received_at,
               case when k.kind <> 'folders' then coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid end as session_id,
               case when k.kind = 'folders' then (e.value ->> 'id')::uuid end as folder_id,
               e.value ->> case k.kind when 'feedback' then 'author' when 'folders' then 'user_id'
                                       when 'sessions' then 'user_id' else 'participant' end as who,
               case when e.value ->> 'claim' like 'user:%' then substr(e.value ->> 'claim', 6) end as claimant,
               e.value ->> 'claim' as claim
          from unnest(kinds) as k (kind)
         cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
    ), claims as (
        select distinct s.session_id, s.claim from stated as s where s.session_id is not null and s.kind <> 'feedback'
        union
        select (p.value ->> 'id')::uuid, null
          from jsonb_array_elements(coalesce(rows -> 'folders', '[]')) as f
         cross join lateral jsonb_array_elements(coalesce(f.value -> 'sessions', '[]')) as p
    ), disputed as materialized (
        select c.session_id from claims as c group by c.session_id having count(*) > 1
    ), named as (
        -- with whom the store says that its session is
        select s.*, (select held.user_id from turnlog.ai_sessions as held
                      where held.project = in_project and held.id = s.session_id and s.kind <> 'feedback') as known
          from stated as s
    ), gone as materialized (
        select w.who, e.erased_at
          from (select n.who from named as n union select n.claimant from named as n
                union select n.known from named as n) as w
          join turnlog.ai_erased_users as e
            on e.project = in_project and e.user_hash = turnlog.user_hash(secret, w.who)
    ), judged as (
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
    select coalesce((select jsonb_object_agg(r.kind, r.receipts)
                       from (select j.kind, jsonb_object_agg(
                                        j.position, '{"receipt": "rejected", "reason": "erased"}'::jsonb) as receipts
                               from judged as j where j.is_refused group by j.kind) as r), '{}'),
           coalesce((select array_agg(distinct j.session_id order by j.session_id) from judged as j where j.is_theirs), '{}'),
           (select jsonb_object_agg(j.session_id, j.theirs_until) from judged as j where j.theirs_until is not null)
      into refused, theirs, until;

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
    return refused;
end
$$;
