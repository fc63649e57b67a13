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
           from turnlog.ai_revisions as r
          where r.project = stored ->> 'project' and r.session_id = (stored ->> 'session_id')::uuid
           and r.interaction_id = (stored ->> 'id')::uuid
            and turnlog.is_contained(
                (select jsonb_object_agg(s.key, s.value) from jsonb_each(turnlog.statement(incoming)) as s
                  where s.value is distinct from turnlog.statement(stored) -> s.key), r.facts)),
        received_at)
$$;
