-- Erasing: sessions with a report, people with all that is theirs, and what is older than a project keeps it.

create table if not exists public.ai_projects (
    project   text  not null,
    keep_days integer,                              -- null: as the service's own setting says
    secret    bytea not null,                       -- signs reports, and hides the names of erased users
    constraint ai_projects_pkey primary key (project),
    constraint ai_projects_project_check check (project <> ''),
    constraint ai_projects_keep_days_check check (keep_days between 1 and 36500)
);

create table if not exists public.ai_erased_users (
    project     text        not null,
    user_hash   bytea       not null,               -- see turnlog_user_hash_v1: the name is gone, too
    erased_at   timestamptz not null,               -- what was received before and arrives later is refused
    finished_at timestamptz,                        -- null: the erasure was cut, and goes on when it is asked for again
    counts      jsonb       not null,               -- what it has taken away so far
    constraint ai_erased_users_pkey primary key (project, user_hash)
);

alter table public.ai_interactions
    add column if not exists erased_at timestamptz; -- set: what an erased user said in somebody else's session
alter table public.ai_session_folders
    add column if not exists erased_at timestamptz; -- when it was last cleared of its name, its user and its metadata

create index if not exists ai_session_participants_participant_idx
    on public.ai_session_participants (project, participant, session_id);


create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121000800',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
$$;


-- The fill rule, for one record: which of the stated facts fill an empty field of the stored record, and
-- which contradict it. Tags and metadata gain entries: a new tag or a new metadata key fills; a metadata key
-- that holds another value contradicts, and is named 'metadata.KEY'. A turn that was erased takes nothing any more.
create or replace function public.turnlog_fill_rule_v1(stored jsonb, stated jsonb, out fills jsonb, out conflicts text[])
language plpgsql immutable
set search_path = ''
as $$
declare
    field text;
    value jsonb;
    held jsonb;
    gained jsonb;
begin
    if stored ->> 'erased_at' is not null and stored ? 'prompt' then
        conflicts := '{erased_at}';
        return;
    end if;
    for field, value in select s.key, s.value from jsonb_each(stated) as s where s.value not in ('null', '[]', '{}') loop
        held := nullif(stored -> field, 'null');
        if held = value then
            continue;
        elsif held is null then
            gained := value;
        elsif field = 'tags' then
            gained := held || coalesce(
                (select jsonb_agg(t.tag order by t.n)
                   from jsonb_array_elements(value) with ordinality as t (tag, n) where not held @> t.tag), '[]');
        elsif field = 'metadata' then
            gained := value || held;
            conflicts := conflicts || array(
                select 'metadata.' || m.key from jsonb_each(value) as m where held -> m.key <> m.value order by m.key);
        else
            gained := held;
            conflicts := conflicts || field;
        end if;
        if gained is distinct from held then
            fills := coalesce(fills, '{}') || jsonb_build_object(field, gained);
        end if;
    end loop;
    conflicts := nullif(conflicts, '{}');
end
$$;


-- {project} -> {key}: what the project's reports are signed with, in hexadecimal digits; made when it is first asked for.
create or replace function public.turnlog_report_key_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    insert into public.ai_projects (project, secret)
    values (request ->> 'project', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')))
        on conflict do nothing;
    return (
        select jsonb_build_object('key', encode(sha256(p.secret || convert_to('report', 'UTF8')), 'hex'))
          from public.ai_projects as p
         where p.project = request ->> 'project');
end
$$;


-- What is kept of an erased user's name: nobody can tell which it was, or try names, without the project's secret.
create or replace function public.turnlog_user_hash_v1(in_project text, of_user text) returns bytea
language sql stable
set search_path = ''
as $$
    select sha256(p.secret || convert_to('user' || chr(10) || of_user, 'UTF8'))
      from public.ai_projects as p
     where p.project = in_project
$$;


-- {project, session_id, most?, dry_run?, ensure?} -> {session_id, erased_at, interactions, participants, left, proof} or
-- null. The session's row stays as a tombstone without content, so that no late replay can bring it back; its number in
-- its folder stays taken. With `most` so many interactions go with each call: nobody reads or adds to the others any more,
-- and it is asked again while some are `left`. Asking again changes nothing. `dry_run` only counts. `ensure` leaves a tombstone also of a
-- session that isn't there. `proof` is a query that counts what is left of it.
create or replace function public.turnlog_erase_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one session's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    ensured constant boolean := coalesce((request ->> 'ensure')::boolean, false);
    most constant integer := request ->> 'most';
    held public.ai_sessions;
    gone_at timestamptz;
    gone_interactions bigint;
    gone_participants bigint;
begin
    if dry_run then
        select s.* into held from public.ai_sessions as s where s.project = in_project and s.id = of_session;
        if held.id is null and not ensured then
            return null;
        end if;
        gone_at := held.erased_at;
        select count(*) into gone_interactions
          from public.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        select count(*) into gone_participants
          from public.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
    else
        if ensured then
            insert into public.ai_sessions (project, id, implicit, created_at)
            values (in_project, of_session, true, statement_timestamp())
                on conflict do nothing;
        end if;
        -- the lock comes first, in a statement of its own: the delete below then sees every append that won
        select s.* into held
          from public.ai_sessions as s
         where s.project = in_project and s.id = of_session
           for update;
        if not found then
            return null;
        end if;
        gone_at := coalesce(held.erased_at, statement_timestamp());

        if most is null then
            delete from public.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        else
            delete from public.ai_interactions as i
             where i.ctid = any (array(
                   select d.ctid from public.ai_interactions as d
                    where d.project = in_project and d.session_id = of_session limit most));
        end if;
        get diagnostics gone_interactions = row_count;
        delete from public.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        get diagnostics gone_participants = row_count;
        update public.ai_sessions as s
           set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
               started_at = null, ended_at = null, scheduled_on = null, erased_at = gone_at
         where s.project = in_project and s.id = of_session and s.erased_at is null;
    end if;

    return jsonb_build_object(
        'session_id', of_session, 'erased_at', gone_at, 'interactions', gone_interactions,
        'participants', gone_participants, 'left', not dry_run and coalesce(gone_interactions = most, false),
        'folder_id', held.folder_id, 'session_number', held.session_number,
        'proof', format(
            'select (select count(*) from public.ai_interactions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from public.ai_session_participants where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from public.ai_sessions where project = %1$L and id = %2$L and (erased_at is null'
            ' or num_nonnulls(key, user_id, claim, title, tags, metadata, edited, started_at, ended_at, scheduled_on) > 0))'
            ' as remaining', in_project, of_session));
end
$$;


-- Erases the content of some sessions, up to `most` interactions of all of them: those that are empty then become
-- tombstones, the others go on with the next call.
create or replace function public.turnlog_erase_some_v1(
    in_project text, ids uuid[], most integer,
    out erased uuid[], out interactions bigint, out participants bigint)
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions' rows, never a whole table, whatever its statistics say
as $$
begin
    -- in the order in which writers lock them; the statements below then see every append that won
    perform from (
        select s.id from public.ai_sessions as s
         where s.project = in_project and s.id = any (ids)
         order by s.id
           for update) as locked;
    delete from public.ai_interactions as i
     where i.ctid = any (array(
           select d.ctid from public.ai_interactions as d
            where d.project = in_project and d.session_id = any (ids) limit most));
    get diagnostics interactions = row_count;
    erased := array(
        select s.id from public.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null
           and not exists (select from public.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id)
         order by s.id);
    delete from public.ai_session_participants as p where p.project = in_project and p.session_id = any (erased);
    get diagnostics participants = row_count;
    update public.ai_sessions as s
       set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, ended_at = null, scheduled_on = null, erased_at = statement_timestamp()
     where s.project = in_project and s.id = any (erased);
end
$$;


-- {project, user_id, limit, after?} -> {sessions, interactions, participants, participations, turns, folders, after}: counts
-- what there is of a user, `limit` sessions with each call: first their own, then others' that they take part in, and with
-- the last of those their folders. The sum of all calls counts; `after` is null at the end.
create or replace function public.turnlog_count_user_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_at constant timestamptz := request #>> '{after,at}';
    after_id constant uuid := request #>> '{after,session_id}';
    after_elsewhere constant uuid := request #>> '{after,elsewhere}';
    ids uuid[];
    times timestamptz[];
begin
    if after_elsewhere is null then
        select coalesce(array_agg(page.id), '{}'), array_agg(page.at)
          into ids, times
          from (select s.id, coalesce(s.started_at, s.created_at) as at
                  from public.ai_sessions as s
                 where s.project = in_project and s.user_id = of_user and s.erased_at is null
                   and (after_at is null or (coalesce(s.started_at, s.created_at), s.id) < (after_at, after_id))
                 order by coalesce(s.started_at, s.created_at) desc, s.id desc
                 limit page_size) as page;
        return jsonb_build_object(
            'sessions', cardinality(ids),
            'interactions', (select count(*) from public.ai_interactions as i
                              where i.project = in_project and i.session_id = any (ids)),
            'participants', (select count(*) from public.ai_session_participants as p
                              where p.project = in_project and p.session_id = any (ids)),
            'after', case when cardinality(ids) = page_size
                then jsonb_build_object('at', times[page_size], 'session_id', ids[page_size])
                else '{"elsewhere": "00000000-0000-0000-0000-000000000000"}' end);
    end if;
    ids := array(
        select p.session_id
          from public.ai_session_participants as p
         where p.project = in_project and p.participant = of_user and p.session_id > after_elsewhere
         order by p.session_id
         limit page_size);
    return (
        select jsonb_build_object(
                   'participations', count(*),
                   'turns', coalesce(sum((
                       select count(*) from public.ai_interactions as i
                        where i.project = in_project and i.session_id = s.id and i.participant = of_user)), 0),
                   'folders', case when cardinality(ids) < page_size then (
                       select count(*) from public.ai_session_folders as f
                        where f.project = in_project and f.user_id = of_user) else 0 end,
                   'after', case when cardinality(ids) = page_size
                       then jsonb_build_object('elsewhere', ids[page_size]) end)
          from public.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.user_id is distinct from of_user);
end
$$;


-- {project, user_id, most, begin?, waiting?, stated?, dry_run?, among?, limit?, after?} -> {erased_at, sessions, interactions, participants,
-- participations, turns, folders, session_ids, left, proof}: takes a part of what there is of a user away, up to `most`
-- interactions, and is asked again while there is something `left`. The counts are those of all calls since the one
-- that said `begin`, also where that was another that was cut.
--
-- A user's sessions are erased as by turnlog_erase_v1. In other people's sessions they take no part any more, and of the
-- interactions that name them the texts are replaced: ids, times and numbers are the conversation's and stay. Their
-- folders stay, since tombstones have numbers in them, without name, key, user and metadata.
-- `waiting`: sessions of which somebody who may has said that they are this user's, and it didn't arrive yet; `stated`:
-- those of which the service itself says so, not only who claims them.
-- `session_ids`: those that this call made tombstones; in a dry run those `among` some that are the user's.
-- `dry_run` counts, and takes `limit` and `after` as turnlog_count_user_v1 does.
create or replace function public.turnlog_erase_user_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    most constant integer := request ->> 'most';
    none constant jsonb :=
        '{"sessions": 0, "interactions": 0, "participants": 0, "participations": 0, "turns": 0, "folders": 0}';
    proof constant text := format(
        'select (select count(*) from public.ai_sessions where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from public.ai_session_participants where project = %1$L and participant = %2$L)'
        ' + (select count(*) from public.ai_interactions where project = %1$L and participant = %2$L)'
        ' + (select count(*) from public.ai_session_folders where project = %1$L and user_id = %2$L)'
        ' as remaining', in_project, of_user);
    hash bytea;
    held public.ai_erased_users;
    ids uuid[];
    folder_ids uuid[];
    waiting uuid[] := '{}';
    step record;
    gone bigint;
    found_some boolean := true;
    gone_now jsonb := '{}';
begin
    if coalesce((request ->> 'dry_run')::boolean, false) then
        return none || public.turnlog_count_user_v1(request) || jsonb_build_object(
            'erased_at', null, 'left', false, 'proof', proof, 'session_ids', array(
                select s.id from public.ai_sessions as s
                 where s.project = in_project and s.user_id = of_user
                   and s.id = any (array(select a::uuid from jsonb_array_elements_text(
                       coalesce(request -> 'among', '[]')) as a))));
    end if;
    perform public.turnlog_report_key_v1(request); -- makes the secret that the hash needs
    hash := public.turnlog_user_hash_v1(in_project, of_user);
    if (request ->> 'begin')::boolean then
        insert into public.ai_erased_users as e (project, user_hash, erased_at, counts)
        values (in_project, hash, statement_timestamp(), '{}')
            on conflict (project, user_hash) do update
           set erased_at = excluded.erased_at, finished_at = null,
               counts = case when e.finished_at is null then e.counts else '{}' end;
        waiting := array(
            select w::uuid from jsonb_array_elements_text(coalesce(request -> 'waiting', '[]')) as w order by 1);
        insert into public.ai_sessions (project, id, implicit, created_at, erased_at)
        select in_project, w.id, true, statement_timestamp(), statement_timestamp()
          from unnest(waiting) as w (id)
            on conflict do nothing;
        -- those are found below, also when this call is cut; who claims a session doesn't say of others' whose they are
        update public.ai_sessions as s
           set user_id = of_user
         where s.project = in_project and s.user_id is null and s.claim is null and s.erased_at is null
           and s.id = any (array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'stated', '[]')) as w));
    end if;
    -- one call at a time, so that each counts what it took away
    select e.* into held from public.ai_erased_users as e where e.project = in_project and e.user_hash = hash for update;

    -- 1. Their sessions.
    ids := array(
        select s.id from public.ai_sessions as s
         where s.project = in_project and s.user_id = of_user and s.erased_at is null
         limit 200);
    if ids <> '{}' then
        select e.* into step from public.turnlog_erase_some_v1(in_project, ids, most) as e;
        gone_now := jsonb_build_object('sessions', cardinality(step.erased), 'interactions', step.interactions,
                                       'participants', step.participants);
        ids := step.erased;
    else
        -- 2. What they said, and that they took part, in other people's.
        ids := array(
            select p.session_id from public.ai_session_participants as p
             where p.project = in_project and p.participant = of_user
             order by p.session_id
             limit 200);
        if ids <> '{}' then
            perform from (
                select s.id from public.ai_sessions as s
                 where s.project = in_project and s.id = any (ids)
                 order by s.id
                   for update) as locked;
            update public.ai_interactions as i
               set prompt = '"[erased]"', response = '"[erased]"', error = null, finish_reason = null, tags = null,
                   metadata = null, key = null, participant = null, status = 'completed', erased_at = statement_timestamp()
             where i.ctid = any (array(
                   select d.ctid from public.ai_interactions as d
                    where d.project = in_project and d.session_id = any (ids) and d.participant = of_user limit most));
            get diagnostics gone = row_count;
            gone_now := jsonb_build_object('turns', gone);
            delete from public.ai_session_participants as p
             where p.project = in_project and p.session_id = any (ids) and p.participant = of_user
               and not exists (select from public.ai_interactions as i
                                where i.project = in_project and i.session_id = p.session_id
                                  and i.participant = of_user);
            get diagnostics gone = row_count;
            gone_now := gone_now || jsonb_build_object('participations', gone);
            ids := '{}';
        else
            -- 3. Their folders; locked first, in a statement of its own: who fills one meanwhile moves its row
            folder_ids := array(
                select f.id from public.ai_session_folders as f
                 where f.project = in_project and f.user_id = of_user
                 order by f.id
                 limit most
                   for no key update);
            update public.ai_session_folders as f
               set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
             where f.project = in_project and f.id = any (folder_ids);
            gone_now := jsonb_build_object('folders', cardinality(folder_ids));
            found_some := folder_ids <> '{}';
        end if;
    end if;

    update public.ai_erased_users as e
       set counts = (
               select coalesce(jsonb_object_agg(n.key, n.value), '{}')
                 from (select c.key, sum(c.value::bigint) as value
                         from (select * from jsonb_each_text(e.counts)
                               union all
                               select * from jsonb_each_text(gone_now)) as c
                        group by c.key) as n),
           finished_at = case when not found_some then statement_timestamp() end
     where e.project = in_project and e.user_hash = hash
    returning e.* into held;
    return none || held.counts || jsonb_build_object(
            'erased_at', held.erased_at, 'left', found_some, 'proof', proof,
            'session_ids', ids || array(
                select s.id from public.ai_sessions as s
                 where s.project = in_project and s.id = any (waiting) and s.id <> all (ids) and s.erased_at is not null));
end
$$;


-- Writes a batch that has waited in a spool as turnlog_write_v2 does, but for what was received before its user was
-- erased: those rows are rejected as erased. A session that is said to be theirs, and that nobody has seen before, leaves
-- a tombstone, so that whatever else of it arrives, without their name on it, is rejected, too. Who only claims a session
-- may claim somebody else's: what a user claims leaves none, each row tells its claimant; and what a token claims leaves
-- none where some row of the batch names the session without that claim.
--
-- These tombstones are locked before what the batch locks in its own order: two such batches may deadlock, and the one
-- that fails is written again.
create or replace function public.turnlog_write_late_v1(batch jsonb) returns jsonb
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
    if not exists (select from public.ai_erased_users as e where e.project = in_project) then
        return public.turnlog_write_v2(batch);
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
        select s.*, (select held.user_id from public.ai_sessions as held
                      where held.project = in_project and held.id = s.session_id) as known
          from stated as s
    ), gone as materialized (
        select w.who, e.erased_at
          from (select n.who from named as n union select n.claimant from named as n
                union select n.known from named as n) as w
          join public.ai_erased_users as e
            on e.project = in_project and e.user_hash = public.turnlog_user_hash_v1(in_project, w.who)
    ), weighed as (
        select n.kind, n.position, n.session_id,
               exists (select from gone as g
                        where g.who in (n.who, n.claimant, n.known) and n.received_at <= g.erased_at)
               or exists (select from public.ai_session_folders as f
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

    insert into public.ai_sessions (project, id, implicit, created_at, erased_at)
    select in_project, t.id, true, statement_timestamp(), statement_timestamp()
      from unnest(theirs) as t (id)
     order by t.id
        on conflict do nothing;
    -- what of it came earlier, before anybody had said whose it is
    for one in
        select s.id from public.ai_sessions as s
         where s.project = in_project and s.id = any (theirs) and s.erased_at is null and s.user_id is null
           and s.claim is null and s.created_at <= (until ->> s.id::text)::timestamptz
         order by s.id
    loop
        perform public.turnlog_erase_v1(jsonb_build_object('project', in_project, 'session_id', one));
    end loop;

    select jsonb_object_agg(k.kind, coalesce(r.rows, '[]'))
      into passed
      from unnest(kinds) as k (kind)
     cross join lateral (
           select jsonb_agg(e.value order by e.ordinality) as rows
             from jsonb_array_elements(coalesce(batch -> k.kind, '[]')) with ordinality as e
            where not refused -> k.kind @> to_jsonb(e.ordinality)) as r;
    receipts := public.turnlog_write_v2(batch || passed);
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


-- {project, user_id, limit, after?: session id} -> {sessions, after}: the sessions of others that a user takes part in,
-- in the order of their ids.
create or replace function public.turnlog_participations_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
begin
    ids := array(
        select p.session_id
          from public.ai_session_participants as p
          join public.ai_sessions as s on s.project = in_project and s.id = p.session_id
         where p.project = in_project and p.participant = of_user and p.session_id > after_id
           and s.erased_at is null and s.user_id is distinct from of_user
         order by p.session_id
         limit page_size + 1);
    return jsonb_build_object(
        'sessions', public.turnlog_session_rows_v1(in_project, ids[:page_size]),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- Of some sessions those of which nothing has arrived since a time, and that aren't scheduled for later. What counts is
-- the service's own clock, not the times that callers state. `waiting`: sessions and folders of which something is on its
-- way: it may name a session by its number, so all of such a folder are in use.
create or replace function public.turnlog_idle_v1(
    in_project text, ids uuid[], before timestamptz, waiting uuid[]) returns uuid[]
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    select coalesce(array_agg(s.id order by s.id), '{}')
      from public.ai_sessions as s
     where s.project = in_project and s.id = any (ids) and s.erased_at is null and s.created_at < before
       and coalesce(s.scheduled_on < before::date, true)
       and not exists (select from unnest(waiting) as w (id) where w.id = s.id)
       and not exists (select from unnest(waiting) as w (id) where w.id = s.folder_id)
       and not exists (select from public.ai_interactions as i
                        where i.project = in_project and i.session_id = s.id and i.created_at >= before)
       and not exists (select from public.ai_session_participants as p
                        where p.project = in_project and p.session_id = s.id and p.created_at >= before)
$$;


-- {project, before, limit, after?: session id, except?} -> {session_ids, interactions, after}: of the next `limit`
-- sessions in the order of their ids those that are idle since `before`, and how many interactions they have. `except`:
-- the ids of sessions and folders of which something waits in a spool; see turnlog_idle_v1.
create or replace function public.turnlog_expirable_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    waiting constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    idle uuid[];
begin
    ids := array(
        select s.id
          from public.ai_sessions as s
         where s.project = in_project and s.erased_at is null and s.id > after_id
         order by s.id
         limit page_size + 1);
    idle := public.turnlog_idle_v1(in_project, ids[:page_size], (request ->> 'before')::timestamptz, waiting);
    return jsonb_build_object(
        'session_ids', idle,
        'interactions', (select count(*) from public.ai_interactions as i
                          where i.project = in_project and i.session_id = any (idle)),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- {project, before, session_ids, most, wait?, except?} -> {session_ids, interactions, held, left}: erases those of some
-- sessions that still are idle since `before`, up to `most` interactions, and is asked again while some are `left`. Those that
-- somebody has a lock on are `held`, or with `wait` waited for.
create or replace function public.turnlog_expire_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    wanted constant uuid[] := array(select i::uuid from jsonb_array_elements_text(request -> 'session_ids') as i);
    waiting constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[] := wanted;
    held uuid[];
    step record;
begin
    -- locked in the order in which writers lock them, and looked at once more: nothing can arrive from now on
    if (request ->> 'wait')::boolean then
        perform from (
            select s.id from public.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update) as locked;
    else
        ids := array(
            select s.id from public.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update skip locked);
    end if;
    held := array(select w.id from unnest(wanted) as w (id) where w.id <> all (ids));
    ids := public.turnlog_idle_v1(in_project, ids, (request ->> 'before')::timestamptz, waiting);
    select e.* into step from public.turnlog_erase_some_v1(in_project, ids, (request ->> 'most')::integer) as e;
    return jsonb_build_object('session_ids', step.erased, 'interactions', step.interactions, 'held', held,
                              'left', cardinality(ids) > cardinality(step.erased));
end
$$;


-- {project, before, limit, after?: folder id, dry_run?, except?} -> {folders, after}: of the next `limit` folders in the
-- order of their ids how many were cleared of name, key, user and metadata: those older than `before` with no session but
-- erased ones; in a dry run also with those that would be. `except` as in turnlog_expirable_v1.
create or replace function public.turnlog_expire_folders_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some folders and their sessions, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    before constant timestamptz := request ->> 'before';
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    waiting constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[];
    found_ids uuid[];
begin
    ids := array(
        select f.id from public.ai_session_folders as f
         where f.project = in_project and f.id > after_id
         order by f.id
         limit page_size + 1);
    -- who adds a session to a folder holds its lock
    if not dry_run then
        perform from (
            select f.id from public.ai_session_folders as f
             where f.project = in_project and f.id = any (ids[:page_size])
             order by f.id
               for no key update) as locked;
    end if;
    found_ids := array(
        select f.id from public.ai_session_folders as f
         where f.project = in_project and f.id = any (ids[:page_size])
           and f.created_at < before and num_nonnulls(f.key, f.name, f.user_id, f.metadata) > 0
           and not exists (select from unnest(waiting) as w (id) where w.id = f.id)
           and (select cardinality(l.live) = case when dry_run
                       then cardinality(public.turnlog_idle_v1(in_project, l.live, before, waiting)) else 0 end
                  from (select array(select s.id from public.ai_sessions as s
                                      where s.project = in_project and s.folder_id = f.id
                                        and s.erased_at is null) as live) as l));
    if not dry_run then
        update public.ai_session_folders as f
           set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
         where f.project = in_project and f.id = any (found_ids);
    end if;
    return jsonb_build_object('folders', cardinality(found_ids),
                              'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- {project?} -> {projects: [{project, keep_days, now}]}: those of which something is stored, or said here.
create or replace function public.turnlog_projects_v1(request jsonb) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a look for each project, never a whole table
as $$
    with recursive named as (
        (select s.project from public.ai_sessions as s order by s.project limit 1)
        union all
        select (select s.project from public.ai_sessions as s where s.project > n.project order by s.project limit 1)
          from named as n
         where n.project is not null
    ), every as (
        select n.project from named as n where n.project is not null
        union
        select p.project from public.ai_projects as p
        union
        select k.project from public.ai_keys as k
    )
    select jsonb_build_object('projects', coalesce(jsonb_agg(
               jsonb_build_object('project', e.project, 'keep_days', p.keep_days, 'now', statement_timestamp())
               order by e.project), '[]'))
      from every as e
      left join public.ai_projects as p on p.project = e.project
     where request ->> 'project' is null or e.project = request ->> 'project'
$$;


-- {project, keep_days?} -> {project, keep_days}: says how long a project is kept; null: as the service's own setting says.
create or replace function public.turnlog_set_project_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
begin
    perform public.turnlog_report_key_v1(request); -- which makes the row
    update public.ai_projects as p
       set keep_days = (request ->> 'keep_days')::integer
     where p.project = request ->> 'project';
    return jsonb_build_object('project', request -> 'project', 'keep_days', request -> 'keep_days');
end
$$;


-- {project, limit, after?: session id, user_id?, tag?, status?, from?, to?} -> {sessions, after}: of the next `limit`
-- sessions in the order of their ids, or of a user's, those that the filters let through, so a page may be short or
-- empty; `after` is null at the end. An id never changes, so a walk meets each session that was there when it began
-- exactly once.
create or replace function public.turnlog_sessions_by_id_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    of_tag constant text := request ->> 'tag';
    of_status constant text := request ->> 'status';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
begin
    -- one more than the page, to know whether there is a next one
    if of_user is null then
        ids := array(
            select s.id
              from public.ai_sessions as s
             where s.project = in_project and s.erased_at is null and s.id > after_id
             order by s.id
             limit page_size + 1);
    else
        -- by their own index, all of them and then sorted: one user's are few among a project's
        ids := array(
            select own.id
              from (select s.id
                      from public.ai_sessions as s
                     where s.project = in_project and s.user_id = of_user and s.erased_at is null
                    offset 0) as own
             where own.id > after_id
             order by own.id
             limit page_size + 1);
    end if;
    return jsonb_build_object(
        'sessions', public.turnlog_session_rows_v1(in_project, array(
            select s.id
              from public.ai_sessions as s
             where s.project = in_project and s.id = any (ids[:page_size]) and s.erased_at is null
               and (of_user is null or s.user_id = of_user)
               and (of_tag is null or s.tags @> array[of_tag])
               and (of_status is null or s.status = of_status)
               and (not_before is null or coalesce(s.started_at, s.created_at) >= not_before)
               and (before is null or coalesce(s.started_at, s.created_at) < before)
             order by s.id)),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- {project, limit} -> {sessions, interactions, left}: takes up to `limit` interactions of a self-test's project away
-- for good, and after the last of them up to `limit` sessions, with no tombstone; `left` counts the rows that are there
-- afterwards. Refuses any other project: what people log is erased by turnlog_erase_v1 only.
create or replace function public.turnlog_forget_project_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- a self-test's rows were never analysed: a plan by statistics would read everyone's
as $$
declare
    in_project constant text := coalesce(request ->> 'project', '');
    most constant integer := request ->> 'limit';
    gone_interactions bigint;
    gone_sessions bigint := 0;
begin
    if in_project !~ '^selftest-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using errcode = '22023', column = 'project',
            message = format('only the project of a self-test can be forgotten, not %L', in_project);
    end if;

    -- by address, found first: joined, a plan without statistics compared each row with each
    delete from public.ai_interactions as i
     where i.ctid = any (array(
           select d.ctid from public.ai_interactions as d where d.project = in_project limit most));
    get diagnostics gone_interactions = row_count;

    if gone_interactions < most then
        delete from public.ai_session_participants as p where p.project = in_project;
        delete from public.ai_sessions as s
         where s.ctid = any (array(
               select d.ctid from public.ai_sessions as d where d.project = in_project limit most));
        get diagnostics gone_sessions = row_count;
        delete from public.ai_session_folders as f
         where f.project = in_project and not exists (select from public.ai_sessions as s where s.project = in_project);
        delete from public.ai_erased_users as e where e.project = in_project;
        delete from public.ai_projects as p where p.project = in_project;
    end if;

    return jsonb_build_object(
        'interactions', gone_interactions, 'sessions', gone_sessions,
        'left', (select count(*) from public.ai_interactions as i where i.project = in_project)
              + (select count(*) from public.ai_sessions as s where s.project = in_project)
              + (select count(*) from public.ai_session_folders as f where f.project = in_project));
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
    foreach object in array array['public.ai_projects', 'public.ai_keys', 'public.ai_session_folders', 'public.ai_sessions',
                                  'public.ai_session_participants', 'public.ai_interactions', 'public.ai_erased_users'] loop
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
