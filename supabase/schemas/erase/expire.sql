-- Erases those of some sessions that are still idle since `before`, up to `most` interactions per call; call it again
-- while `left`. Sessions that another transaction has locked are skipped and returned in `locked`; `wait` waits for
-- them. Takes {project, before, session_ids, most, wait?, except?}. Returns {session_ids, interactions, locked, left}.
create or replace function turnlog.expire(request jsonb) returns jsonb
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
    ids uuid[] := wanted;
    locked_ids uuid[];
    step record;
begin
    -- lock in the order of all writers, then check again: nothing can arrive from now on
    if (request ->> 'wait')::boolean then
        perform from (
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update) as locked;
    else
        ids := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (wanted)
             order by s.id
               for update skip locked);
    end if;
    locked_ids := array(select w.id from unnest(wanted) as w (id) where w.id <> all (ids));
    ids := turnlog.idle_sessions(in_project, ids, (request ->> 'before')::timestamptz, in_use);
    select e.* into step from turnlog.erase_sessions(in_project, ids, (request ->> 'most')::integer) as e;
    return jsonb_build_object('session_ids', step.erased, 'interactions', step.interactions, 'locked', locked_ids,
                              'left', cardinality(ids) > cardinality(step.erased));
end
$$;
