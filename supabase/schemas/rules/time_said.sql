-- Returns when a record about a stored interaction was said: as it states; else, if what it says otherwise than the
-- stored one is a kept revision, when that was said, since then it is a retry; else when it was received.
create or replace function turnlog.time_said(stored jsonb, incoming jsonb, received_at timestamptz)
returns timestamptz
language sql stable
set search_path = ''
as $$
    select coalesce(
        (incoming ->> 'completed_at')::timestamptz, (incoming ->> 'started_at')::timestamptz,
        (select max(r.said_at)
           from (select (select jsonb_object_agg(o.key, o.value)
                           from jsonb_each(s.own) as o
                          where o.value is distinct from s.was -> o.key) as facts
                   from (select turnlog.statement(incoming) as own, turnlog.statement(stored) as was offset 0) as s
                 offset 0) as n
           join turnlog.ai_revisions as r on turnlog.is_contained(n.facts, r.facts)
          where r.project = stored ->> 'project' and r.session_id = (stored ->> 'session_id')::uuid
            and r.interaction_id = (stored ->> 'id')::uuid),
        received_at)
$$;
