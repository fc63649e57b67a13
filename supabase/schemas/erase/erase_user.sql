-- Erases a user's data, up to `most` interactions per call; call it again while `left`. The counts are totals since the
-- call with `begin`, also if an earlier erasure was interrupted.
-- Takes {project, user_id, most, begin?, spooled_sessions?, trusted_sessions?, dry_run?, among?, limit?, after?}.
-- Returns {erased_at, sessions, interactions, participants, feedback, participations, turns, folders, session_ids,
-- left, proof}.
--
-- The user's own sessions are erased as by turnlog.erase. In other sessions the user no longer takes part, the user's
-- feedback is deleted, and the user's interactions are erased as by turnlog.blank_interactions. The user's folders stay
-- without name, key, user and metadata, since tombstones have numbers in them. The names of guests who were merged into
-- the user go, too; late records of theirs are rejected. Records of who read what lose the user and the user's sessions:
-- see turnlog.erase_reads.
-- `spooled_sessions`: those that spooled records assign to the user; `trusted_sessions`: those of them that the service
-- itself assigned, not only a claim. `session_ids`: sessions that became tombstones in this call; in a dry run, those
-- `among` some that are the user's. `dry_run` counts, with `limit` and `after` as in turnlog.count_user.
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
        ' + (select count(*) from turnlog.ai_spans where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from turnlog.ai_spans where project = %1$L and participant = %2$L)'
        ' + (select count(*) from turnlog.ai_session_folders where project = %1$L and user_id = %2$L)'
        ' + (select count(*) from turnlog.ai_reads where project = %1$L and (user_id = %2$L or reader = %2$L))'
        ' + (select count(*) from turnlog.ai_user_merges where project = %1$L and into_user = %2$L)'
        ' as remaining', in_project, of_user);
    hash bytea;
    marker turnlog.ai_erased_users;
    ids uuid[];
    folder_ids uuid[];
    spooled_sessions uuid[] := '{}';
    step record;
    affected bigint;
    feedback_before bigint;  -- feedback on the sessions being erased
    reads bigint := 0;       -- records of reads that were found in this call
    blanked_sessions uuid[];
    blanked_ids uuid[];
    names text[];            -- the user's, and those of guests who were merged into the user
    has_more boolean := true;
    removed jsonb := '{}';
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
    perform turnlog.report_key(request); -- creates the secret that the hash needs
    hash := turnlog.user_hash((select p.secret from turnlog.ai_projects as p where p.project = in_project), of_user);
    if (request ->> 'begin')::boolean then
        insert into turnlog.ai_erased_users as e (project, user_hash, erased_at, counts)
        values (in_project, hash, statement_timestamp(), '{}')
            on conflict (project, user_hash) do update
           set erased_at = excluded.erased_at, finished_at = null,
               counts = case when e.finished_at is null then e.counts else '{}' end;
        -- late records may name one of the user's guests; the names themselves go with the last call
        insert into turnlog.ai_erased_users as e (project, user_hash, erased_at, finished_at, counts)
        select in_project, turnlog.user_hash((select p.secret from turnlog.ai_projects as p where p.project = in_project),
                                             m.guest), statement_timestamp(), statement_timestamp(), '{}'
          from turnlog.ai_user_merges as m
         where m.project = in_project and m.into_user = of_user
         order by 2
            on conflict (project, user_hash) do update set erased_at = excluded.erased_at;
        spooled_sessions := array(
            select w::uuid from jsonb_array_elements_text(coalesce(request -> 'spooled_sessions', '[]')) as w order by 1);
        insert into turnlog.ai_sessions (project, id, implicit, created_at, erased_at)
        select in_project, w.id, true, statement_timestamp(), statement_timestamp()
          from unnest(spooled_sessions) as w (id)
            on conflict do nothing;
        -- step 1 finds them as the user's, in later calls, too; a session with a claim isn't reassigned
        update turnlog.ai_sessions as s
           set user_id = of_user
         where s.project = in_project and s.user_id is null and s.claim is null and s.erased_at is null
           and s.id = any (array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'trusted_sessions', '[]')) as w));
    end if;
    -- one call at a time, so that the counts are right
    select e.* into marker from turnlog.ai_erased_users as e where e.project = in_project and e.user_hash = hash for update;

    -- 1. The user's own sessions.
    ids := array(
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.user_id = of_user and s.erased_at is null
         limit 200);
    if ids <> '{}' then
        -- before the sessions become tombstones, which don't say whose they were
        reads := turnlog.erase_reads(in_project, of_user, ids, most);
    end if;
    if reads >= most then
        ids := '{}'; -- there may be more of them
    elsif ids <> '{}' then
        perform from (  -- in the order of all writers; nothing changes between counting and deleting
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (ids)
             order by s.id
               for update) as locked;
        select count(*) into feedback_before from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (ids);
        select e.* into step from turnlog.erase_sessions(in_project, ids, most) as e;
        feedback_before := feedback_before - (select count(*) from turnlog.ai_feedback as f
                             where f.project = in_project and f.session_id = any (ids));
        removed := jsonb_build_object('sessions', cardinality(step.erased), 'interactions', step.interactions,
                                       'participants', step.participants, 'feedback', feedback_before);
        ids := step.erased;
    else
        -- 2. The user's interactions and participations in other sessions.
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
            select array_agg(d.session_id), array_agg(d.id)
              into blanked_sessions, blanked_ids
              from (select i.session_id, i.id
                      from turnlog.ai_interactions as i
                     where i.project = in_project and i.session_id = any (ids) and i.participant = of_user
                     limit most) as d;
            select b.* into step from turnlog.blank_interactions(in_project, blanked_sessions, blanked_ids) as b;
            removed := jsonb_build_object('turns', step.interactions, 'feedback', step.feedback);
            delete from turnlog.ai_session_participants as p
             where p.project = in_project and p.session_id = any (ids) and p.participant = of_user
               and not exists (select from turnlog.ai_interactions as i
                                where i.project = in_project and i.session_id = p.session_id
                                  and i.participant = of_user);
            get diagnostics affected = row_count;
            removed := removed || jsonb_build_object('participations', affected + step.participants);
            ids := '{}';
        elsif exists (select from turnlog.ai_feedback as f where f.project = in_project and f.author = of_user) then
            -- 3. The user's feedback in other sessions.
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
            get diagnostics affected = row_count;
            removed := jsonb_build_object('feedback', affected);
            ids := '{}';
        else
            -- 4. The user's folders, locked first by a statement of its own: a concurrent fill moves the row
            folder_ids := array(
                select f.id from turnlog.ai_session_folders as f
                 where f.project = in_project and f.user_id = of_user
                 order by f.id
                 limit most
                   for no key update);
            update turnlog.ai_session_folders as f
               set key = null, name = null, user_id = null, metadata = null, erased_at = statement_timestamp()
             where f.project = in_project and f.id = any (folder_ids);
            removed := jsonb_build_object('folders', cardinality(folder_ids));
            -- 5. What is left of the user in spans of other sessions.
            names := of_user || array(
                select m.guest from turnlog.ai_user_merges as m
                 where m.project = in_project and m.into_user = of_user);
            perform turnlog.blank_spans(in_project, array(
                select s.trace_id || '/' || s.span_id from turnlog.ai_spans as s
                 where s.project = in_project and s.user_id = any (names)));
            update turnlog.ai_spans as s
               set participant = null
             where s.project = in_project and s.participant = any (names);
            -- 6. The user's reads of other sessions.
            has_more := folder_ids <> '{}' or turnlog.erase_reads(in_project, of_user, '{}', most) > 0;
            if not has_more then
                delete from turnlog.ai_user_merges as m where m.project = in_project and m.into_user = of_user;
            end if;
        end if;
    end if;

    update turnlog.ai_erased_users as e
       set counts = (
               select coalesce(jsonb_object_agg(n.key, n.value), '{}')
                 from (select c.key, sum(c.value::bigint) as value
                         from (select * from jsonb_each_text(e.counts)
                               union all
                               select * from jsonb_each_text(removed)) as c
                        group by c.key) as n),
           finished_at = case when not has_more then statement_timestamp() end
     where e.project = in_project and e.user_hash = hash
    returning e.* into marker;
    return none || marker.counts || jsonb_build_object(
            'erased_at', marker.erased_at, 'left', has_more, 'proof', proof,
            'session_ids', ids || array(
                select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (spooled_sessions) and s.id <> all (ids) and s.erased_at is not null));
end
$$;
