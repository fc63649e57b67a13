-- Removes the texts of those of some sessions that are still idle since `before`, up to `most` interactions per call;
-- call it again while `left`. Prompt and response become '[expired]', an error becomes its kind (see
-- turnlog.error_kind), and revisions, comments of feedback and the session's title go. Ids, times, counts, tokens, cost,
-- the status, tags, metadata and values of feedback stay. Such an interaction takes no text any more: see
-- turnlog.interaction_rule. Whatever else comes to hold texts of an interaction is removed here.
-- Locked sessions as in turnlog.expire. Takes {project, before, session_ids, most, wait?, except?}. Returns
-- {session_ids: those that have no texts left, interactions, locked, left}.
create or replace function turnlog.expire_texts(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    wanted constant uuid[] := array(select i::uuid from jsonb_array_elements_text(request -> 'session_ids') as i);
    in_use constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    most constant integer := (request ->> 'most')::integer;
    idle record;
    ids uuid[];
    done uuid[];    -- sessions whose interactions have no texts left
    expired bigint;
begin
    select l.* into idle
      from turnlog.lock_idle_sessions(in_project, wanted, (request ->> 'before')::timestamptz, in_use,
                                      coalesce((request ->> 'wait')::boolean, false)) as l;
    ids := turnlog.sessions_with_texts(in_project, idle.ids);
    update turnlog.ai_interactions as i
       -- what had no prompt or no response still has none: places in the conversation and the status follow from that
       set prompt = case when i.prompt is not null then '"[expired]"'::jsonb end,
           response = case when i.response is not null then '"[expired]"'::jsonb end,
           error = case when i.error <> '' then coalesce(turnlog.error_kind(i.error), ' ') else i.error end,
           context = null, instructions = null, context_end = null, prompt_end = null, response_end = null,
           text_expired_at = statement_timestamp()
     where i.project = in_project collate "C" and i.ctid = any (array(
           select d.ctid from turnlog.ai_interactions as d
            where d.project = in_project and d.session_id = any (ids)
              and d.text_expired_at is null and d.erased_at is null
            limit most));
    get diagnostics expired = row_count;
    done := array(
        select w.id from unnest(ids) as w (id)
         where not exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = w.id
                              and i.text_expired_at is null and i.erased_at is null)
         order by w.id);
    delete from turnlog.ai_messages as m where m.project = in_project and m.session_id = any (done);
    delete from turnlog.ai_revisions as r where r.project = in_project and r.session_id = any (done);
    update turnlog.ai_feedback as f
       set comment = null
     where f.project = in_project and f.session_id = any (done) and f.comment is not null;
    update turnlog.ai_sessions as s
       set title = null, text_expired_at = statement_timestamp()
     where s.project = in_project and s.id = any (done);
    perform turnlog.requeue_session(in_project, d.id) from unnest(done) as d (id);
    return jsonb_build_object('session_ids', done, 'interactions', expired, 'locked', idle.locked_ids,
                              'left', cardinality(ids) > cardinality(done));
end
$$;
