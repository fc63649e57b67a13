-- {project, session_id, most?, dry_run?, ensure?} -> {session_id, erased_at, interactions, participants, feedback, left, proof} or
-- null. The session's row stays as a tombstone without content, so that no late replay can bring it back; its number in
-- its folder stays taken. With `most` so many interactions go with each call: nobody reads or adds to the others any more,
-- and it is asked again while some are `left`. Asking again changes nothing. `dry_run` only counts. `ensure` leaves a tombstone also of a
-- session that isn't there. `proof` is a query that counts what is left of it.
create or replace function turnlog.erase(request jsonb) returns jsonb
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
    held turnlog.ai_sessions;
    gone_at timestamptz;
    gone_interactions bigint;
    gone_participants bigint;
    gone_feedback bigint;
begin
    if dry_run then
        select s.* into held from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
        if held.id is null and not ensured then
            return null;
        end if;
        gone_at := held.erased_at;
        select count(*) into gone_interactions
          from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        select count(*) into gone_participants
          from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        select count(*) into gone_feedback
          from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
    else
        if ensured then
            insert into turnlog.ai_sessions (project, id, implicit, created_at)
            values (in_project, of_session, true, statement_timestamp())
                on conflict do nothing;
        end if;
        -- the lock comes first, in a statement of its own: the delete below then sees every append that won
        select s.* into held
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = of_session
           for update;
        if not found then
            return null;
        end if;
        gone_at := coalesce(held.erased_at, statement_timestamp());

        if most is null then
            delete from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        else
            delete from turnlog.ai_interactions as i
             where i.project = in_project collate "C" and i.ctid = any (array(
                   select d.ctid from turnlog.ai_interactions as d
                    where d.project = in_project and d.session_id = of_session limit most));
        end if;
        get diagnostics gone_interactions = row_count;
        delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        get diagnostics gone_participants = row_count;
        delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
        get diagnostics gone_feedback = row_count;
        update turnlog.ai_sessions as s
           set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
               started_at = null, ended_at = null, scheduled_on = null, erased_at = gone_at
         where s.project = in_project and s.id = of_session and s.erased_at is null;
        perform turnlog.queue_session(in_project, of_session);
    end if;

    return jsonb_build_object(
        'session_id', of_session, 'erased_at', gone_at, 'interactions', gone_interactions,
        'participants', gone_participants, 'feedback', gone_feedback,
        'left', not dry_run and coalesce(gone_interactions = most, false),
        'folder_id', held.folder_id, 'session_number', held.session_number,
        'proof', format(
            'select (select count(*) from turnlog.ai_interactions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_session_participants where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_feedback where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_sessions where project = %1$L and id = %2$L and (erased_at is null'
            ' or num_nonnulls(key, user_id, claim, title, tags, metadata, edited, started_at, ended_at, scheduled_on) > 0))'
            ' as remaining', in_project, of_session));
end
$$;
