-- {project, user_id, most, begin?, waiting?, stated?, dry_run?, among?, limit?, after?} -> {erased_at, sessions, interactions, participants,
-- feedback, participations, turns, folders, session_ids, left, proof}: takes a part of what there is of a user away, up to `most`
-- interactions, and is asked again while there is something `left`. The counts are those of all calls since the one
-- that said `begin`, also where that was another that was cut.
--
-- A user's sessions are erased as by turnlog.erase. In other people's sessions they take no part any more, what they said
-- of interactions there goes, and of the interactions that name them the texts are replaced: ids, times and numbers are the conversation's and stay. Their
-- folders stay, since tombstones have numbers in them, without name, key, user and metadata.
-- `waiting`: sessions of which somebody who may has said that they are this user's, and it didn't arrive yet; `stated`:
-- those of which the service itself says so, not only who claims them.
-- `session_ids`: those that this call made tombstones; in a dry run those `among` some that are the user's.
-- `dry_run` counts, and takes `limit` and `after` as turnlog.count_user does.
create or replace function turnlog.erase_user(request jsonb) returns jsonb
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
        'select (select count(*) from turnlog.ai_sessions where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from turnlog.ai_session_participants where project = %1$L and participant = %2$L)'
        ' + (select count(*) from turnlog.ai_interactions where project = %1$L and participant = %2$L)'
        ' + (select count(*) from turnlog.ai_feedback where project = %1$L and author = %2$L)'
        ' + (select count(*) from turnlog.ai_session_folders where project = %1$L and user_id = %2$L)'
        ' as remaining', in_project, of_user);
    hash bytea;
    held turnlog.ai_erased_users;
    ids uuid[];
    folder_ids uuid[];
    waiting uuid[] := '{}';
    step record;
    gone bigint;
    judged bigint;  -- what is said of the sessions that go
    touched uuid[];  -- sessions of which turns were blanked
    found_some boolean := true;
    gone_now jsonb := '{}';
begin
    if coalesce((request ->> 'dry_run')::boolean, false) then
        ids := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.user_id = of_user
               and s.id = any (array(select a::uuid from jsonb_array_elements_text(
                   coalesce(request -> 'among', '[]')) as a)));
        return none || turnlog.count_user(request) || jsonb_build_object(
            'erased_at', null, 'left', false, 'proof', proof, 'session_ids', ids);
    end if;
    perform turnlog.report_key(request); -- makes the secret that the hash needs
    hash := turnlog.user_hash((select p.secret from turnlog.ai_projects as p where p.project = in_project), of_user);
    if (request ->> 'begin')::boolean then
        insert into turnlog.ai_erased_users as e (project, user_hash, erased_at, counts)
        values (in_project, hash, statement_timestamp(), '{}')
            on conflict (project, user_hash) do update
           set erased_at = excluded.erased_at, finished_at = null,
               counts = case when e.finished_at is null then e.counts else '{}' end;
        waiting := array(
            select w::uuid from jsonb_array_elements_text(coalesce(request -> 'waiting', '[]')) as w order by 1);
        insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
        select in_project, w.id, true, statement_timestamp(), statement_timestamp()
          from unnest(waiting) as w (id)
            on conflict do nothing;
        -- those are found below, also when this call is cut; who claims a session doesn't say of others' whose they are
        update turnlog.ai_sessions as s
           set user_id = of_user
         where s.project = in_project and s.user_id is null and s.claim is null and s.erased_at is null
           and s.id = any (array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'stated', '[]')) as w));
    end if;
    -- one call at a time, so that each counts what it took away
    select e.* into held from turnlog.ai_erased_users as e where e.project = in_project and e.user_hash = hash for update;

    -- 1. Their sessions.
    ids := array(
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.user_id = of_user and s.erased_at is null
         limit 200);
    if ids <> '{}' then
        perform from (  -- in the order of all: what is counted is then what goes
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (ids)
             order by s.id
               for update) as locked;
        select count(*) into judged from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (ids);
        select e.* into step from turnlog.erase_some(in_project, ids, most) as e;
        judged := judged - (select count(*) from turnlog.ai_feedback as f
                             where f.project = in_project and f.session_id = any (ids));
        gone_now := jsonb_build_object('sessions', cardinality(step.erased), 'interactions', step.interactions,
                                       'participants', step.participants, 'feedback', judged);
        ids := step.erased;
    else
        -- 2. What they said, and that they took part, in other people's.
        ids := array(
            select p.session_id from turnlog.ai_session_participants as p
             where p.project = in_project and p.participant = of_user
             order by p.session_id
             limit 200);
        if ids <> '{}' then
            perform from (
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (ids)
                 order by s.id
                   for update) as locked;
            with blanked as (
                update turnlog.ai_interactions as i
                   set prompt = '"[erased]"', response = '"[erased]"', error = null, finish_reason = null, tags = null,
                       metadata = null, key = null, participant = null, status = 'completed', erased_at = statement_timestamp()
                 where i.project = in_project collate "C" and i.ctid = any (array(
                       select d.ctid from turnlog.ai_interactions as d
                        where d.project = in_project and d.session_id = any (ids) and d.participant = of_user limit most))
                returning i.session_id
            )
            select count(*), array_agg(distinct b.session_id) into gone, touched from blanked as b;
            perform turnlog.queue_session(in_project, t.id) from unnest(touched) as t (id);
            gone_now := jsonb_build_object('turns', gone);
            delete from turnlog.ai_session_participants as p
             where p.project = in_project and p.session_id = any (ids) and p.participant = of_user
               and not exists (select from turnlog.ai_interactions as i
                                where i.project = in_project and i.session_id = p.session_id
                                  and i.participant = of_user);
            get diagnostics gone = row_count;
            gone_now := gone_now || jsonb_build_object('participations', gone);
            ids := '{}';
        elsif exists (select from turnlog.ai_feedback as f where f.project = in_project and f.author = of_user) then
            -- 3. What they said of other people's interactions.
            ids := array(
                select distinct f.session_id from (
                    select f.session_id from turnlog.ai_feedback as f
                     where f.project = in_project and f.author = of_user
                     order by f.session_id
                     limit 200) as f);
            perform from (
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (ids)
                 order by s.id
                   for update) as locked;
            delete from turnlog.ai_feedback as f
             where f.project = in_project collate "C" and f.ctid = any (array(
                   select d.ctid from turnlog.ai_feedback as d
                    where d.project = in_project and d.author = of_user and d.session_id = any (ids) limit most));
            get diagnostics gone = row_count;
            gone_now := jsonb_build_object('feedback', gone);
            ids := '{}';
        else
            -- 4. Their folders; locked first, in a statement of its own: who fills one meanwhile moves its row
            folder_ids := array(
                select f.id from turnlog.ai_session_folders as f
                 where f.project = in_project and f.user_id = of_user
                 order by f.id
                 limit most
                   for no key update);
            update turnlog.ai_session_folders as f
               set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
             where f.project = in_project and f.id = any (folder_ids);
            gone_now := jsonb_build_object('folders', cardinality(folder_ids));
            found_some := folder_ids <> '{}';
        end if;
    end if;

    update turnlog.ai_erased_users as e
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
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (waiting) and s.id <> all (ids) and s.erased_at is not null));
end
$$;
