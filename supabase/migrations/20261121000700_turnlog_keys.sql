-- Who may write and read: keys of projects, and sessions that belong to who opened them from a browser.

-- A key is looked up by its digest, whatever its project: on Citus this small table is a reference table.
create table if not exists public.ai_keys (
    project      text        not null,
    id           uuid        not null,
    family       uuid        not null,                  -- the first of the keys that replaced each other
    kind         text        not null,
    digest       bytea       not null,                  -- SHA-256 of the key, which nobody keeps
    hint         text        not null,                  -- its first characters, so that people tell keys apart
    name         text,
    scopes       text[]      not null,
    origins      text[]      not null default '{}',     -- web pages that may use it; none for secret keys
    token_secret text        not null,                  -- signs the session tokens of its family
    created_at   timestamptz not null,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,                           -- to the minute
    constraint ai_keys_pkey primary key (project, id),
    constraint ai_keys_project_check check (project <> ''),
    constraint ai_keys_kind_check check (kind in ('secret', 'publishable')),
    constraint ai_keys_digest_check check (octet_length(digest) = 32),
    constraint ai_keys_scopes_check check (
        scopes <@ '{log,read,edit,erase,admin}'::text[] and cardinality(scopes) > 0
        and (kind = 'secret' or scopes = '{log}'::text[])),
    constraint ai_keys_origins_check check ((kind = 'publishable') = (cardinality(origins) > 0))
);

create unique index if not exists ai_keys_digest_key on public.ai_keys (digest);

-- Whose session it is, where somebody opened it with a publishable key; else it is its user's.
alter table public.ai_sessions add column if not exists claim text;


create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121000700',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
$$;


-- A key as its operators see it.
create or replace function public.turnlog_key_row_v1(of_key public.ai_keys) returns jsonb
language sql immutable
set search_path = ''
set timezone = 'UTC'
as $$
    select to_jsonb(of_key) - '{digest,token_secret}'::text[]
$$;


-- {digest: hex} -> the key with its token_secret, whatever its state, or null. Notes its last use, to the minute.
create or replace function public.turnlog_key_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    wanted constant bytea := decode(request ->> 'digest', 'hex');
    found_key public.ai_keys;
begin
    select k.* into found_key from public.ai_keys as k where k.digest = wanted;
    if found_key.id is null then
        return null;
    end if;
    if found_key.revoked_at is null and not current_setting('transaction_read_only')::boolean
       and coalesce(found_key.last_used_at < statement_timestamp() - interval '1 minute', true) then
        -- who is noting it already does it for all: nobody waits for a note
        update public.ai_keys as k
           set last_used_at = statement_timestamp()
         where (k.project, k.id) in (select l.project, l.id from public.ai_keys as l
                                      where l.project = found_key.project and l.id = found_key.id
                                        for no key update skip locked);
    end if;
    return public.turnlog_key_row_v1(found_key) || jsonb_build_object('token_secret', found_key.token_secret);
end
$$;


-- {project?} -> {keys: [...]}, the oldest first.
create or replace function public.turnlog_keys_v1(request jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object('keys', coalesce(jsonb_agg(
               public.turnlog_key_row_v1(k) order by k.project, k.created_at, k.id), '[]'))
      from public.ai_keys as k
     where request ->> 'project' is null or k.project = request ->> 'project'
$$;


-- {} -> {origins: [...]}: of the pages that may use some key. All at once, so that who asks for one costs no look-up.
create or replace function public.turnlog_origins_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object('origins', coalesce(jsonb_agg(distinct page.origin), '[]'))
      from public.ai_keys as k
     cross join unnest(k.origins) as page (origin)
     where k.revoked_at is null and (k.expires_at is null or k.expires_at > statement_timestamp())
$$;


-- {key: {project, id, kind, digest: hex, hint, name?, scopes, origins, token_secret, expires_at?}, first?} -> the key;
-- null if it was to be the `first` of all keys and isn't.
create or replace function public.turnlog_create_key_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    made public.ai_keys;
begin
    if coalesce((request ->> 'first')::boolean, false) then
        lock table public.ai_keys in share row exclusive mode; -- services that start together make one key, not each
        if exists (select from public.ai_keys) then
            return null;
        end if;
    end if;
    insert into public.ai_keys
           (project, id, family, kind, digest, hint, name, scopes, origins, token_secret, created_at, expires_at)
    select k ->> 'project', (k ->> 'id')::uuid, (k ->> 'id')::uuid, k ->> 'kind', decode(k ->> 'digest', 'hex'),
           k ->> 'hint', k ->> 'name', array(select jsonb_array_elements_text(k -> 'scopes')),
           array(select jsonb_array_elements_text(k -> 'origins')), k ->> 'token_secret', statement_timestamp(),
           (k ->> 'expires_at')::timestamptz
      from (select request -> 'key' as k) as stated
    returning * into made;
    return public.turnlog_key_row_v1(made);
end
$$;


-- {id} -> the key, which opens nothing from now on, or null. Asking again changes nothing.
create or replace function public.turnlog_revoke_key_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    revoked public.ai_keys;
begin
    update public.ai_keys as k
       set revoked_at = coalesce(k.revoked_at, statement_timestamp())
     where k.id = (request ->> 'id')::uuid
    returning k.* into revoked;
    return case when revoked.id is not null then public.turnlog_key_row_v1(revoked) end;
end
$$;


-- {id, overlap_s, key: {id, digest: hex, hint}} -> {key, replaced}: a new key that may what the old one may, which ends
-- when the overlap does. null if there is none, or if it opens nothing any more.
create or replace function public.turnlog_rotate_key_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    replaced public.ai_keys;
    made public.ai_keys;
begin
    select k.* into replaced from public.ai_keys as k where k.id = (request ->> 'id')::uuid for update;
    if replaced.id is null or replaced.revoked_at is not null or replaced.expires_at <= statement_timestamp() then
        return null;
    end if;
    insert into public.ai_keys
           (project, id, family, kind, digest, hint, name, scopes, origins, token_secret, created_at, expires_at)
    values (replaced.project, (request #>> '{key,id}')::uuid, replaced.family, replaced.kind,
            decode(request #>> '{key,digest}', 'hex'), request #>> '{key,hint}', replaced.name, replaced.scopes,
            replaced.origins, replaced.token_secret, statement_timestamp(), replaced.expires_at)
    returning * into made;
    update public.ai_keys as k
       set expires_at = least(k.expires_at, statement_timestamp() + make_interval(secs => (request ->> 'overlap_s')::float8))
     where k.project = replaced.project and k.id = replaced.id
    returning k.* into replaced;
    return jsonb_build_object('key', public.turnlog_key_row_v1(made), 'replaced', public.turnlog_key_row_v1(replaced));
end
$$;


-- Sessions as callers see them, in the order of their ids' list. Counts are derived here, never stored.
create or replace function public.turnlog_session_rows_v1(of_project text, ids uuid[]) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(
        jsonb_build_object(
            'session_id', s.id, 'key', s.key, 'user_id', s.user_id, 'title', s.title,
            'folder_id', s.folder_id, 'session_number', s.session_number, 'scheduled_on', s.scheduled_on,
            'status', s.status, 'implicit', s.implicit,
            'tags', coalesce(to_jsonb(s.tags), '[]'), 'metadata', coalesce(s.metadata, '{}'),
            'started_at', s.started_at, 'ended_at', s.ended_at,
            'created_at', s.created_at, 'erased_at', s.erased_at,
            'owner', coalesce(s.claim, 'user:' || s.user_id),
            'interaction_count', coalesce(i.interaction_count, 0), 'last_activity_at', i.last_activity_at
        ) order by wanted.n), '[]')
    from unnest(ids) with ordinality as wanted (id, n)
    join public.ai_sessions as s on s.project = of_project and s.id = wanted.id
    left join (
        select c.session_id, count(*) as interaction_count,
               max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
          from public.ai_interactions as c
         where c.project = of_project and c.session_id = any (ids)
         group by c.session_id
    ) as i on i.session_id = s.id
$$;


-- {project, limit, user_id?, unclaimed?, tag?, status?, from?, to?, after?: {at, session_id}} -> {sessions, after}, newest
-- first. A session's time is its started_at, or created_at where the caller gave none. `after` is null at the end.
create or replace function public.turnlog_sessions_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    of_tag constant text := request ->> 'tag';
    of_status constant text := request ->> 'status';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    after_at constant timestamptz := request #>> '{after,at}';
    unclaimed constant boolean := coalesce((request ->> 'unclaimed')::boolean, false); -- only what is its user's own
    after_id constant uuid := request #>> '{after,session_id}';
    ids uuid[];
    times timestamptz[];
begin
    -- one more than the page, to know whether there is a next one
    select array_agg(page.id), array_agg(page.at)
      into ids, times
      from (select s.id, coalesce(s.started_at, s.created_at) as at
              from public.ai_sessions as s
             where s.project = in_project and s.erased_at is null
               and (of_user is null or s.user_id = of_user)
               and (not unclaimed or s.claim is null)
               and (of_tag is null or s.tags @> array[of_tag])
               and (of_status is null or s.status = of_status)
               and (not_before is null or coalesce(s.started_at, s.created_at) >= not_before)
               and (before is null or coalesce(s.started_at, s.created_at) < before)
               and (after_at is null or (coalesce(s.started_at, s.created_at), s.id) < (after_at, after_id))
             order by coalesce(s.started_at, s.created_at) desc, s.id desc
             limit page_size + 1) as page;
    return jsonb_build_object(
        'sessions', public.turnlog_session_rows_v1(in_project, coalesce(ids[:page_size], '{}')),
        'after', case when cardinality(ids) > page_size
            then jsonb_build_object('at', times[page_size], 'session_id', ids[page_size]) end);
end
$$;


-- Writes a batch as turnlog_write_v1 does, where its rows may carry `claim`: whose their session must be. A session that
-- is there and somebody else's refuses them; one that isn't becomes theirs. Locks are taken in turnlog_write_v1's order.
create or replace function public.turnlog_write_v2(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s'
as $$
declare
    in_project constant text := batch ->> 'project';
    claiming constant text[] := '{sessions,participants,interactions}';
    claimed constant uuid[] := array(   -- sessions that some row claims
        select distinct coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid
          from unnest(claiming) as k (kind)
         cross join lateral jsonb_array_elements(batch -> k.kind) as e
         where e.value ? 'claim');
    kind text;
    missing uuid[];     -- those of them that nobody has written yet
    owners jsonb;       -- session -> who has it, or gets it; '' for nobody but the service
    refused jsonb;      -- kind -> positions of rows whose session is somebody else's
    passed jsonb := batch;
    stated integer;     -- how many of the sessions' rows pass
    receipts jsonb;
    born uuid[];
begin
    if claimed = '{}' then
        return public.turnlog_write_v1(batch);
    end if;

    for attempt in 1 .. 3 loop
        -- An owner never changes, so what this look has seen stays true. An erased session answers for itself.
        select coalesce(jsonb_object_agg(s.id, case when s.erased_at is null then coalesce(s.claim, 'user:' || s.user_id, '') end), '{}')
          into owners
          from public.ai_sessions as s
         where s.project = in_project and s.id = any (claimed);
        missing := array(select c.id from unnest(claimed) as c (id) where not owners ? c.id::text);

        -- Of several in this batch who make the same session the service is first, then who came first.
        if missing <> '{}' then
            select owners || coalesce(jsonb_object_agg(first.session_id, first.claim), '{}')
              into owners
              from (select distinct on (r.session_id) r.session_id, coalesce(r.claim, '') as claim
                      from unnest(claiming) with ordinality as k (kind, nth)
                     cross join lateral (
                           select coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid as session_id,
                                  e.value ->> 'claim' as claim, e.ordinality
                             from jsonb_array_elements(batch -> k.kind) with ordinality as e) as r
                     where r.session_id = any (missing)
                     order by r.session_id, r.claim is not null, k.nth, r.ordinality) as first;
        end if;

        select jsonb_object_agg(k.kind, coalesce(r.rows, '[]')), jsonb_object_agg(k.kind, coalesce(r.refused, '[]'))
          into passed, refused
          from unnest(claiming) as k (kind)
         cross join lateral (
               select jsonb_agg(w.value - 'claim' order by w.ordinality) filter (where not w.is_refused) as rows,
                      jsonb_agg(w.ordinality order by w.ordinality) filter (where w.is_refused) as refused
                 from (select e.value, e.ordinality, coalesce(
                              e.value ->> 'claim' <> owners ->> coalesce(e.value ->> 'session_id', e.value ->> 'id'),
                              false) as is_refused
                         from jsonb_array_elements(batch -> k.kind) with ordinality as e) as w) as r;

        stated := jsonb_array_length(passed -> 'sessions');
        if missing = '{}' then
            receipts := public.turnlog_write_v1(batch || passed);
            exit;
        end if;

        -- Who makes a session makes it by a row of its own, so that it is known who did; a user's carries their name.
        passed := passed || jsonb_build_object('sessions', (
            select jsonb_agg(case when owners ->> (s.value ->> 'id') like 'user:%' and (s.value ->> 'id')::uuid = any (missing)
                                  then jsonb_build_object('user_id', substr(owners ->> (s.value ->> 'id'), 6)) || s.value
                                  else s.value end order by s.nth)
              from (select e.value, e.ordinality as nth
                      from jsonb_array_elements(passed -> 'sessions') with ordinality as e
                    union all
                    select jsonb_build_object('id', r.session_id, 'implicit', true, 'created_at', min(r.created_at)),
                           stated + row_number() over (order by r.session_id)
                      from (select (e ->> 'session_id')::uuid as session_id, e ->> 'created_at' as created_at
                              from jsonb_array_elements((passed -> 'participants') || (passed -> 'interactions')) as e) as r
                     where r.session_id = any (missing)
                       and not exists (select from jsonb_array_elements(passed -> 'sessions') as e
                                        where (e ->> 'id')::uuid = r.session_id)
                     group by r.session_id) as s));

        begin
            receipts := public.turnlog_write_v1(batch || passed);
            born := array(
                select (s.value ->> 'id')::uuid
                  from jsonb_array_elements(passed -> 'sessions') with ordinality as s
                 where receipts -> 'sessions' -> (s.ordinality - 1)::integer ->> 'receipt' = 'created');
            if exists (select from public.ai_sessions as s
                        where s.project = in_project and s.id = any (missing) and s.id <> all (born)) then
                raise exception using errcode = 'TLRAC', message = 'somebody else made a session meanwhile';
            end if;
            update public.ai_sessions as s
               set claim = owners ->> s.id::text
             where s.project = in_project and s.id = any (missing) and owners ->> s.id::text like 'token:%';
            exit;
        exception when sqlstate 'TLRAC' then
            receipts := null; -- all of it is taken back; the next look sees whose the session is
        end;
    end loop;
    if receipts is null then
        raise exception using errcode = '55P03', message = 'somebody else keeps making the sessions of this batch';
    end if;

    if jsonb_array_length(passed -> 'sessions') > stated then
        receipts := receipts || jsonb_build_object('sessions', (
            select coalesce(jsonb_agg(r.value order by r.ordinality), '[]')
              from jsonb_array_elements(receipts -> 'sessions') with ordinality as r
             where r.ordinality <= stated));
    end if;
    foreach kind in array claiming loop
        if refused -> kind <> '[]' then
            receipts := receipts || jsonb_build_object(kind, (
                select jsonb_agg(case when r.is_refused
                                     then '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb
                                     else receipts -> kind -> (r.place - 1)::integer end
                                 order by r.ordinality)
                  from (select e.ordinality, w.is_refused,
                               count(*) filter (where not w.is_refused) over (order by e.ordinality) as place
                          from jsonb_array_elements(batch -> kind) with ordinality as e
                         cross join lateral (
                               select refused -> kind @> to_jsonb(e.ordinality) as is_refused) as w) as r));
        end if;
    end loop;
    return receipts;
end
$$;


-- What writing a batch would do, as turnlog_write_v2 would say: it is written, and taken back.
create or replace function public.turnlog_explain_v1(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    receipts jsonb;
begin
    begin
        receipts := public.turnlog_write_v2(batch);
        raise exception using errcode = 'TLXPL', message = 'only explained';
    exception when sqlstate 'TLXPL' then
        return receipts; -- a variable outlives what is rolled back
    end;
end
$$;


-- Nobody but the service: row-level security without policies, all rights revoked. On Supabase the service is
-- service_role; elsewhere it is the role that owns these tables. Each migration ends with this, for what it made.
create or replace function public.turnlog_close_v1() returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    object text;
    has_service_role constant boolean := exists (select from pg_catalog.pg_roles where rolname = 'service_role');
    others constant text := (
        select concat_ws(', ', 'public', string_agg(quote_ident(r.rolname), ', '))
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated'));
begin
    foreach object in array array['public.ai_session_folders', 'public.ai_sessions', 'public.ai_session_participants',
                                  'public.ai_interactions', 'public.ai_keys'] loop
        execute format('alter table %s enable row level security', object);
        execute format('revoke all on table %s from %s', object, others);
        if has_service_role then
            execute format('grant select, insert, update, delete on table %s to service_role', object);
        end if;
    end loop;

    for object in
        select p.oid::regprocedure::text
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'public'::regnamespace and p.proname like 'turnlog\_%'
    loop
        execute format('revoke all on function %s from %s', object, others);
        if has_service_role then
            execute format('grant execute on function %s to service_role', object);
        end if;
    end loop;
end
$$;


do $$ begin perform public.turnlog_close_v1(); end $$;
