-- Erases a session's content, up to `most` interactions per call; call it again while `left`. The row stays as a
-- tombstone without content, so that no late delivery brings the session back, and its number in the folder stays
-- taken. A further call changes nothing. `dry_run` only counts. `ensure` leaves a tombstone even if there is no such
-- session. Takes {project, session_id, most?, dry_run?, ensure?}. Returns null, or {session_id, erased_at,
-- interactions, participants, feedback, folder_id, session_number, left, proof}; `proof` is a query that counts what
-- remains.
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
    ensure constant boolean := coalesce((request ->> 'ensure')::boolean, false);
    most constant integer := request ->> 'most';
    stored turnlog.ai_sessions;
    tombstone_at timestamptz;
    interaction_count bigint;
    participant_count bigint;
    feedback_count bigint;
begin
    if dry_run then
        select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
        if stored.id is null and not ensure then
            return null;
        end if;
        tombstone_at := stored.erased_at;
        select count(*) into interaction_count
          from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        select count(*) into participant_count
          from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        select count(*) into feedback_count
          from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
    else
        if ensure then
            insert into turnlog.ai_sessions (project, id, implicit, created_at)
            values (in_project, of_session, true, statement_timestamp())
                on conflict do nothing;
        end if;
        -- lock first, by a statement of its own: the deletes below then see every write that committed before
        select s.* into stored
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = of_session
           for update;
        if not found then
            return null;
        end if;
        tombstone_at := coalesce(stored.erased_at, statement_timestamp());

        if most is null then
            delete from turnlog.ai_interactions as i where i.project = in_project and i.session_id = of_session;
        else
            delete from turnlog.ai_interactions as i
             where i.project = in_project collate "C" and i.ctid = any (array(
                   select d.ctid from turnlog.ai_interactions as d
                    where d.project = in_project and d.session_id = of_session limit most));
        end if;
        get diagnostics interaction_count = row_count;
        delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = of_session;
        delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = of_session;
        delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = of_session;
        get diagnostics participant_count = row_count;
        delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = of_session;
        get diagnostics feedback_count = row_count;
        update turnlog.ai_sessions as s
           set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
               started_at = null, earliest_turn_at = null, ended_at = null, scheduled_on = null, erased_at = tombstone_at
         where s.project = in_project and s.id = of_session and s.erased_at is null;
        perform turnlog.erase_spans(in_project, array[of_session]);
        perform turnlog.requeue_session(in_project, of_session);
    end if;

    return jsonb_build_object(
        'session_id', of_session, 'erased_at', tombstone_at, 'interactions', interaction_count,
        'participants', participant_count, 'feedback', feedback_count,
        'left', not dry_run and coalesce(interaction_count = most, false),
        'folder_id', stored.folder_id, 'session_number', stored.session_number,
        'proof', format(
            'select (select count(*) from turnlog.ai_interactions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_messages where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_revisions where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_session_participants where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_feedback where project = %1$L and session_id = %2$L)'
            ' + (select count(*) from turnlog.ai_spans where project = %1$L and session_id = %2$L and erased_at is null)'
            ' + (select count(*) from turnlog.ai_sessions where project = %1$L and id = %2$L and (erased_at is null'
            ' or num_nonnulls(key, user_id, claim, title, tags, metadata, edited, started_at, earliest_turn_at, ended_at,'
            ' scheduled_on) > 0))'
            ' as remaining', in_project, of_session));
end
$$;
