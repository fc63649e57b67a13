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
    idle record;
    step record;
begin
    select l.* into idle
      from turnlog.lock_idle_sessions(in_project, wanted, (request ->> 'before')::timestamptz, in_use,
                                      coalesce((request ->> 'wait')::boolean, false)) as l;
    select e.* into step from turnlog.erase_sessions(in_project, idle.ids, (request ->> 'most')::integer) as e;
    return jsonb_build_object('session_ids', step.erased, 'interactions', step.interactions, 'locked', idle.locked_ids,
                              'left', cardinality(idle.ids) > cardinality(step.erased));
end
$$;
