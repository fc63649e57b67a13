-- Removes a session from the search index and queues its interactions that have texts again, unless it is erased. The queue's rows are
-- deleted first: a process that indexes them has committed then. The interactions are read last, so that none written
-- meanwhile is missed. A session with very many interactions is marked as matching anything instead: queueing it all at
-- each step of an erasure would take ever longer.
create or replace function turnlog.requeue_session(in_project text, of_session uuid) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    most constant integer := 1000; -- interactions; a longer session isn't queued
    ids uuid[];
begin
    delete from turnlog.ai_search_queue as q where q.project = in_project and q.session_id = of_session;
    delete from turnlog.ai_search as s where s.project = in_project and s.session_id = of_session;
    if exists (select from turnlog.ai_sessions as s
                where s.project = in_project and s.id = of_session and s.erased_at is not null) then
        return;
    end if;
    ids := array(
        select i.id from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session and i.id <> '00000000-0000-0000-0000-000000000000'
           and i.erased_at is null and i.text_expired_at is null
         order by i.id
         limit most + 1);
    if cardinality(ids) > most then
        insert into turnlog.ai_search (project, session_id, part, grams)
        values (in_project, of_session, gen_random_uuid(), '{-1}');
    elsif cardinality(ids) > 0 then
        insert into turnlog.ai_search_queue (project, session_id, ids) values (in_project, of_session, ids);
    end if;
end
$$;
