-- Erases the content of some sessions, up to `most` interactions altogether. Returns `erased`, the ids of the sessions
-- that are empty now and became tombstones, and how many interactions and participants were deleted.
create or replace function turnlog.erase_sessions(
    in_project text, ids uuid[], most integer,
    out erased uuid[], out interactions bigint, out participants bigint)
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- some sessions' rows, never a whole table, whatever its statistics say
as $$
declare
    touched uuid[];  -- sessions whose interactions were deleted
begin
    -- in the order of all writers; the statements below then see every write that committed before
    perform from (
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids)
         order by s.id
           for update) as locked;
    with deleted as (
        delete from turnlog.ai_interactions as i
         where i.project = in_project collate "C" and i.ctid = any (array(
               select d.ctid from turnlog.ai_interactions as d
                where d.project = in_project and d.session_id = any (ids) limit most))
        returning i.session_id
    )
    select count(*), coalesce(array_agg(distinct g.session_id), '{}') into interactions, touched from deleted as g;
    erased := array(
        select s.id from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null
           and not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id)
         order by s.id);
    delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = any (erased);
    delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = any (erased || touched);
    delete from turnlog.ai_session_participants as p where p.project = in_project and p.session_id = any (erased);
    get diagnostics participants = row_count;
    delete from turnlog.ai_feedback as f where f.project = in_project and f.session_id = any (erased);
    update turnlog.ai_sessions as s
       set key = null, user_id = null, claim = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, earliest_turn_at = null, ended_at = null, scheduled_on = null, erased_at = statement_timestamp()
     where s.project = in_project and s.id = any (erased);
    perform turnlog.erase_spans(in_project, erased);
    perform turnlog.requeue_session(in_project, t.id) from unnest(touched) as t (id);
end
$$;
