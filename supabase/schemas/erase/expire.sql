-- {project, before, session_ids, most, wait?, except?} -> {session_ids, interactions, held, left}: erases those of some
-- sessions that still are idle since `before`, up to `most` interactions, and is asked again while some are `left`. Those that
-- somebody has a lock on are `held`, or with `wait` waited for.
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
    waiting constant uuid[] := array(select w::uuid from jsonb_array_elements_text(coalesce(request -> 'except', '[]')) as w);
    ids uuid[] := wanted;
    held uuid[];
    step record;
begin
    -- locked in the order in which writers lock them, and looked at once more: nothing can arrive from now on
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
    held := array(select w.id from unnest(wanted) as w (id) where w.id <> all (ids));
    ids := turnlog.idle(in_project, ids, (request ->> 'before')::timestamptz, waiting);
    select e.* into step from turnlog.erase_some(in_project, ids, (request ->> 'most')::integer) as e;
    return jsonb_build_object('session_ids', step.erased, 'interactions', step.interactions, 'held', held,
                              'left', cardinality(ids) > cardinality(step.erased));
end
$$;
