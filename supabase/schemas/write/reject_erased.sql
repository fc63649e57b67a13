-- Rejects rows of a spooled batch that were received before their user was erased. Returns kind -> position -> receipt.
-- An unknown session that the batch assigns to an erased user leaves a tombstone, so that its other rows, which don't
-- name the user, are rejected as well. A mere claim may be false, so it leaves none: a user's claim is in each row
-- anyway, and a token's claim only counts if no row of the batch names the session without it.
--
-- The tombstones are locked before the batch locks its own rows in order: two such batches may deadlock, and the one
-- that fails is written again.
create or replace function turnlog.reject_erased(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    kinds constant text[] := '{folders,sessions,participants,interactions,feedback,spans}';
    secret constant bytea := (select p.secret from turnlog.ai_projects as p where p.project = in_project);
    rejected jsonb;
    users_sessions uuid[];  -- sessions that the batch assigns to an erased user
    erased_until jsonb;     -- session id -> when the user was erased, of those that the service itself assigned
    one uuid;
begin
    with incoming as (
        select k.kind, e.ordinality as position, (e.value ->> 'created_at')::timestamptz as received_at,
               case when k.kind <> 'folders' then coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid end as session_id,
               case when k.kind = 'folders' then (e.value ->> 'id')::uuid end as folder_id,
               e.value ->> case k.kind when 'feedback' then 'author' when 'folders' then 'user_id'
                                       when 'sessions' then 'user_id' else 'participant' end as person,
               case when e.value ->> 'claim' like 'user:%' then substr(e.value ->> 'claim', 6) end as claimant,
               e.value ->> 'claim' as claim
          from unnest(kinds) as k (kind)
         cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) with ordinality as e
    ), claims as (
        select distinct s.session_id, s.claim from incoming as s where s.session_id is not null and s.kind <> 'feedback'
        union
        select (p.value ->> 'id')::uuid, null
          from jsonb_array_elements(coalesce(rows -> 'folders', '[]')) as f
         cross join lateral jsonb_array_elements(coalesce(f.value -> 'sessions', '[]')) as p
    ), disputed as materialized (
        select c.session_id from claims as c group by c.session_id having count(*) > 1
    ), named as (
        -- `stored_user`: the user of the session
        select s.*, (select stored.user_id from turnlog.ai_sessions as stored
                      where stored.project = in_project and stored.id = s.session_id and s.kind <> 'feedback') as stored_user
          from incoming as s
    ), erased as materialized (
        select w.person, e.erased_at
          from (select n.person from named as n union select n.claimant from named as n
                union select n.stored_user from named as n) as w
          join turnlog.ai_erased_users as e
            on e.project = in_project and e.user_hash = turnlog.user_hash(secret, w.person)
    ), decided as (
        select n.kind, n.position, n.session_id,
               exists (select from erased as g
                        where g.person in (n.person, n.claimant, n.stored_user) and n.received_at <= g.erased_at)
               or exists (select from turnlog.ai_session_folders as f
                           where f.project = in_project and f.id = n.folder_id and n.received_at <= f.erased_at) as is_rejected,
               n.kind = 'sessions'
               and (n.claim is null
                    or n.claimant is null and n.session_id not in (select d.session_id from disputed as d))
               and exists (select from erased as g where g.person = n.person and n.received_at <= g.erased_at) as belongs_to_user,
               -- a claim may be false, so it assigns nothing
               (select max(g.erased_at) from erased as g
                 where n.kind = 'sessions' and g.person = n.person and n.claim is null
                   and n.received_at <= g.erased_at) as erased_until
          from named as n
    )
    select coalesce((select jsonb_object_agg(r.kind, r.receipts)
                       from (select j.kind, jsonb_object_agg(
                                        j.position, '{"receipt": "rejected", "reason": "erased"}'::jsonb) as receipts
                               from decided as j where j.is_rejected group by j.kind) as r), '{}'),
           coalesce((select array_agg(distinct j.session_id order by j.session_id) from decided as j where j.belongs_to_user), '{}'),
           (select jsonb_object_agg(j.session_id, j.erased_until) from decided as j where j.erased_until is not null)
      into rejected, users_sessions, erased_until;

    insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
    select in_project, t.id, true, statement_timestamp(), statement_timestamp()
      from unnest(users_sessions) as t (id)
     order by t.id
        on conflict do nothing;
    -- earlier records of these sessions, stored before anything assigned a user
    for one in
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (users_sessions) and s.erased_at is null and s.user_id is null
           and s.claim is null and s.created_at <= (erased_until ->> s.id::text)::timestamptz
         order by s.id
    loop
        perform turnlog.erase(jsonb_build_object('project', in_project, 'session_id', one));
    end loop;
    return rejected;
end
$$;
