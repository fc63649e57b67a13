-- Feedback: what people say of an interaction, which they may change their mind about.

create table if not exists public.ai_feedback (
    project        text        not null,
    session_id     uuid        not null,
    interaction_id uuid        not null,            -- which may arrive later: writes are indifferent to order
    author         text        not null,            -- '': nobody has said who it is, as of the one who was talked to
    name           text        not null,            -- what is judged: rating, score, note, or any of the caller's own
    value          jsonb       not null,            -- a number, true or false, or a text
    comment        text,
    given_at       timestamptz not null,            -- of several statements the latest is what counts
    created_at     timestamptz not null,            -- when the service first received any of them
    constraint ai_feedback_pkey primary key (project, session_id, interaction_id, author, name),
    -- To the session, as all below it have: whoever writes or erases there holds its lock. Not to the interaction, which
    -- may still wait somewhere when somebody already judges it.
    constraint ai_feedback_session_fkey foreign key (project, session_id)
        references public.ai_sessions (project, id),
    constraint ai_feedback_interaction_id_check check (interaction_id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_feedback_author_check check ((author = '' or author !~ '^\s*$') and length(author) <= 200),
    constraint ai_feedback_name_check check (name !~ '^\s*$' and length(name) <= 200),
    constraint ai_feedback_value_check check (jsonb_typeof(value) in ('number', 'boolean', 'string')),
    constraint ai_feedback_comment_check check (comment <> '')
);

create index if not exists ai_feedback_author_idx
    on public.ai_feedback (project, author, session_id, interaction_id, name);


create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121000900',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
$$;


-- Writes a batch's feedback, below sessions that the batch has locked. Receipts in the order of the list.
--
-- Of all that one author says of one interaction under one name the statement with the latest `given_at` is kept, and of
-- those of one moment the one whose value, then whose comment, is the greater text: so any order, doubling and delay
-- leave the same row. A receipt is `filled` where a statement took the place of another one, with the fields that are
-- different now, and `duplicate` where it says what is there, or, with the reason `older`, something that was said
-- before. `late`: it has waited in a spool, and what was received before its author was erased is rejected.
create or replace function public.turnlog_write_feedback_v1(in_project text, feedback jsonb, late boolean) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    stated record;
    of_session record;
    held public.ai_feedback;
    is_newer boolean;
    fields text[];
    receipts jsonb := '[]';
begin
    for stated in
        select f.*
          from jsonb_to_recordset(feedback) as f (
               session_id uuid, interaction_id uuid, author text, name text, value jsonb, comment text,
               given_at timestamptz, created_at timestamptz, claim text)
    loop
        select s.id, s.erased_at, coalesce(s.claim, 'user:' || s.user_id, '') as owner
          into of_session
          from public.ai_sessions as s
         where s.project = in_project and s.id = stated.session_id;
        if of_session.erased_at is not null
           or late and exists (
               select from public.ai_erased_users as e
                where e.project = in_project and stated.created_at <= e.erased_at
                  and e.user_hash in (public.turnlog_user_hash_v1(in_project, stated.author),
                                      case when stated.claim like 'user:%' then
                                          public.turnlog_user_hash_v1(in_project, substr(stated.claim, 6)) end))
        then
            receipts := receipts || '{"receipt": "rejected", "reason": "erased"}'::jsonb;
            continue;
        elsif of_session.id is null then
            receipts := receipts || '{"receipt": "rejected", "reason": "the session was refused"}'::jsonb;
            continue;
        elsif stated.claim <> of_session.owner then
            receipts := receipts || '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb;
            continue;
        end if;

        stated.author := coalesce(stated.author, '');
        stated.created_at := coalesce(stated.created_at, statement_timestamp());
        stated.given_at := coalesce(stated.given_at, stated.created_at);
        insert into public.ai_feedback
               (project, session_id, interaction_id, author, name, value, comment, given_at, created_at)
        values (in_project, stated.session_id, stated.interaction_id, stated.author, stated.name, stated.value,
                stated.comment, stated.given_at, stated.created_at)
            on conflict do nothing;
        if found then
            receipts := receipts || '{"receipt": "created"}'::jsonb;
            continue;
        end if;

        select f.* into held
          from public.ai_feedback as f
         where f.project = in_project and f.session_id = stated.session_id
           and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        is_newer := (stated.given_at, stated.value::text collate "C", coalesce(stated.comment, '') collate "C")
                  > (held.given_at, held.value::text collate "C", coalesce(held.comment, '') collate "C");
        fields := array_remove(array[
            case when is_newer and stated.value <> held.value then 'value' end,
            case when is_newer and stated.comment is distinct from held.comment then 'comment' end], null);
        if is_newer then
            update public.ai_feedback as f
               set value = stated.value, comment = stated.comment, given_at = stated.given_at,
                   created_at = least(held.created_at, stated.created_at)
             where f.project = in_project and f.session_id = stated.session_id
               and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        elsif stated.created_at < held.created_at then
            update public.ai_feedback as f
               set created_at = stated.created_at
             where f.project = in_project and f.session_id = stated.session_id
               and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        end if;
        receipts := receipts || case
            when fields <> '{}' then jsonb_build_object('receipt', 'filled', 'fields', fields)
            when not is_newer and (stated.value <> held.value or stated.comment is distinct from held.comment)
                then '{"receipt": "duplicate", "reason": "older"}'::jsonb
            else '{"receipt": "duplicate"}'::jsonb end;
    end loop;
    return receipts;
end
$$;


-- Writes a batch with feedback: the rest of it as turnlog_write_v2 does, or, where it is `late`, as
-- turnlog_write_late_v1 does, and then {feedback: [row ...]}, all in one transaction. The sessions of the feedback must be
-- among the batch's, so that they are ensured and locked; a row's `claim` says whose its session must be.
create or replace function public.turnlog_write_v3(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s'
as $$
declare
    late constant boolean := coalesce((batch ->> 'late')::boolean, false);
    others constant jsonb := batch - '{feedback,late}'::text[];
    receipts jsonb;
begin
    if late then
        receipts := public.turnlog_write_late_v1(others);
    else
        receipts := public.turnlog_write_v2(others);
    end if;
    return receipts || jsonb_build_object(
        'feedback', public.turnlog_write_feedback_v1(batch ->> 'project', coalesce(batch -> 'feedback', '[]'), late));
end
$$;


-- {project, session_id, limit, interaction_ids?, author?, after?} -> {session, feedback, after}: what was said of a session's
-- interactions, or of some of them, or by one author. {project, author, limit, after?} -> the same, with `session` null: what
-- somebody said in sessions that are not their own. In the order of the ids, which never change, with `after` {session_id,
-- interaction_id, author, name}, null at the end.
create or replace function public.turnlog_feedback_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
set enable_seqscan = off -- the rows of one session, or of one author, whatever the statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    by_author constant text := request ->> 'author';
    page_size constant integer := request ->> 'limit';
    among constant uuid[] := case when request ? 'interaction_ids' then array(
        select i::uuid from jsonb_array_elements_text(request -> 'interaction_ids') as i) end;
    after_session constant uuid := coalesce((request #>> '{after,session_id}')::uuid, of_session);
    after_id constant uuid := request #>> '{after,interaction_id}';
    after_author constant text := request #>> '{after,author}';
    after_name constant text := request #>> '{after,name}';
    page public.ai_feedback[];
begin
    if of_session is null and by_author is null then
        raise exception using errcode = '22023', column = 'session_id', message = 'name a session or an author';
    end if;
    -- one more than the page, to know whether there is a next one
    if of_session is not null then
        page := array(
            select f
              from public.ai_feedback as f
             where f.project = in_project and f.session_id = of_session
               and (among is null or f.interaction_id = any (among))
               and (by_author is null or f.author = by_author)
               and (after_id is null or (f.interaction_id, f.author, f.name) > (after_id, after_author, after_name))
             order by f.interaction_id, f.author, f.name
             limit page_size + 1);
    else
        page := array(
            select f
              from public.ai_feedback as f
              join public.ai_sessions as s on s.project = in_project and s.id = f.session_id
             where f.project = in_project and f.author = by_author and s.user_id is distinct from by_author
               and (after_id is null or (f.session_id, f.interaction_id, f.name) > (after_session, after_id, after_name))
             order by f.session_id, f.interaction_id, f.name
             limit page_size + 1);
    end if;
    return jsonb_build_object(
        'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                      from public.ai_sessions as s where s.project = in_project and s.id = of_session),
        'feedback', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'session_id', p.session_id, 'interaction_id', p.interaction_id, 'author', nullif(p.author, ''),
                       'name', p.name, 'value', p.value, 'comment', p.comment, 'given_at', p.given_at, 'created_at', p.created_at,
                       'session_key', (select s.key from public.ai_sessions as s
                                        where s.project = in_project and s.id = p.session_id),
                       'interaction_key', (select i.key from public.ai_interactions as i
                                            where i.project = in_project and i.session_id = p.session_id
                                              and i.id = p.interaction_id)) order by p.ordinality), '[]')
              from unnest(page[:page_size]) with ordinality as p),
        'after', case when cardinality(page) > page_size then jsonb_build_object(
            'session_id', page[page_size].session_id, 'interaction_id', page[page_size].interaction_id,
            'author', page[page_size].author, 'name', page[page_size].name) end);
end
$$;


-- {project, session_id, most?, dry_run?, ensure?} -> {session_id, erased_at, interactions, participants, feedback, left, proof} or
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
    gone_feedback bigint;
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
        select count(*) into gone_feedback
          from public.ai_feedback as f where f.project = in_project and f.session_id = of_session;
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
        delete from public.ai_feedback as f where f.project = in_project and f.session_id = of_session;
        get diagnostics gone_feedback = row_count;
        update public.ai_sessions as s
           set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
               started_at = null, ended_at = null, scheduled_on = null, erased_at = gone_at
         where s.project = in_project and s.id = of_session and s.erased_at is null;
    end if;

    return jsonb_build_object(
        'session_id', of_session, 'erased_at', gone_at, 'interactions', gone_interactions,
        'participants', gone_participants, 'feedback', gone_feedback,
        'left', not dry_run and coalesce(gone_interactions = most, false),
        'folder_id', held.folder_id, 'session_number', held.session_number,
        'proof', format(
            'select (select count(*) from public.ai_interactions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from public.ai_session_participants where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from public.ai_feedback where project = %1$L and session_id = %2$L)'
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
    delete from public.ai_feedback as f where f.project = in_project and f.session_id = any (erased);
    update public.ai_sessions as s
       set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, ended_at = null, scheduled_on = null, erased_at = statement_timestamp()
     where s.project = in_project and s.id = any (erased);
end
$$;


-- {project, user_id, limit, after?} -> {sessions, interactions, participants, feedback, participations, turns, folders, after}: counts
-- what there is of a user, `limit` sessions with each call: first their own, then others' that they take part in, and with
-- the last of those their folders, and what they said of others' sessions. The sum of all calls counts; `after` is null at the end.
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
            'feedback', (select count(*) from public.ai_feedback as f
                          where f.project = in_project and f.session_id = any (ids)),
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
                   'feedback', case when cardinality(ids) < page_size then (
                       select count(*) from public.ai_feedback as f
                         join public.ai_sessions as s on s.project = in_project and s.id = f.session_id
                        where f.project = in_project and f.author = of_user
                          and s.user_id is distinct from of_user) else 0 end,
                   'after', case when cardinality(ids) = page_size
                       then jsonb_build_object('elsewhere', ids[page_size]) end)
          from public.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.user_id is distinct from of_user);
end
$$;


-- {project, user_id, most, begin?, waiting?, stated?, dry_run?, among?, limit?, after?} -> {erased_at, sessions, interactions, participants,
-- feedback, participations, turns, folders, session_ids, left, proof}: takes a part of what there is of a user away, up to `most`
-- interactions, and is asked again while there is something `left`. The counts are those of all calls since the one
-- that said `begin`, also where that was another that was cut.
--
-- A user's sessions are erased as by turnlog_erase_v1. In other people's sessions they take no part any more, what they said
-- of interactions there goes, and of the interactions that name them the texts are replaced: ids, times and numbers are the conversation's and stay. Their
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
        '{"sessions": 0, "interactions": 0, "participants": 0, "feedback": 0, "participations": 0, "turns": 0, "folders": 0}';
    proof constant text := format(
        'select (select count(*) from public.ai_sessions where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from public.ai_session_participants where project = %1$L and participant = %2$L)'
        ' + (select count(*) from public.ai_interactions where project = %1$L and participant = %2$L)'
        ' + (select count(*) from public.ai_feedback where project = %1$L and author = %2$L)'
        ' + (select count(*) from public.ai_session_folders where project = %1$L and user_id = %2$L)'
        ' as remaining', in_project, of_user);
    hash bytea;
    held public.ai_erased_users;
    ids uuid[];
    folder_ids uuid[];
    waiting uuid[] := '{}';
    step record;
    gone bigint;
    judged bigint;  -- what is said of the sessions that go
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
        perform from (  -- in the order of all: what is counted is then what goes
            select s.id from public.ai_sessions as s
             where s.project = in_project and s.id = any (ids)
             order by s.id
               for update) as locked;
        select count(*) into judged from public.ai_feedback as f where f.project = in_project and f.session_id = any (ids);
        select e.* into step from public.turnlog_erase_some_v1(in_project, ids, most) as e;
        judged := judged - (select count(*) from public.ai_feedback as f
                             where f.project = in_project and f.session_id = any (ids));
        gone_now := jsonb_build_object('sessions', cardinality(step.erased), 'interactions', step.interactions,
                                       'participants', step.participants, 'feedback', judged);
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
        elsif exists (select from public.ai_feedback as f where f.project = in_project and f.author = of_user) then
            -- 3. What they said of other people's interactions.
            ids := array(
                select distinct f.session_id from (
                    select f.session_id from public.ai_feedback as f
                     where f.project = in_project and f.author = of_user
                     order by f.session_id
                     limit 200) as f);
            perform from (
                select s.id from public.ai_sessions as s
                 where s.project = in_project and s.id = any (ids)
                 order by s.id
                   for update) as locked;
            delete from public.ai_feedback as f
             where f.ctid = any (array(
                   select d.ctid from public.ai_feedback as d
                    where d.project = in_project and d.author = of_user and d.session_id = any (ids) limit most));
            get diagnostics gone = row_count;
            gone_now := jsonb_build_object('feedback', gone);
            ids := '{}';
        else
            -- 4. Their folders; locked first, in a statement of its own: who fills one meanwhile moves its row
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
       and not exists (select from public.ai_feedback as f
                        where f.project = in_project and f.session_id = s.id and f.created_at >= before)
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
        delete from public.ai_feedback as f where f.project = in_project;
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
                                  'public.ai_session_participants', 'public.ai_interactions', 'public.ai_feedback',
                                  'public.ai_erased_users'] loop
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
