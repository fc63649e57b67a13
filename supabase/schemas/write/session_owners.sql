-- Returns session id -> owners for the sessions that rows of a batch claim: '' if only the service owns it, null for a
-- tombstone, which is rejected anyway. Sessions that don't exist are missing. The owner is whoever opened the session.
-- Where the service handed it over, the new user owns it; a page that opened it with a token may go on to append.
create or replace function turnlog.session_owners(in_project text, rows jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select coalesce(jsonb_object_agg(s.id, case when s.erased_at is null
                                                    then to_jsonb(array[coalesce(s.claim, 'user:' || s.user_id, '')]
                                                                  || case when 'user_id' = any (s.edited) and s.user_id is not null
                                                                          then array['user:' || s.user_id] end) end), '{}')
          from turnlog.ai_sessions as s
         where s.project = in_project
           and s.id = any (array(
               select coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid
                 from unnest(array['sessions', 'participants', 'interactions', 'feedback']) as k (kind)
                cross join lateral jsonb_array_elements(coalesce(rows -> k.kind, '[]')) as e
                where e.value ? 'claim')));
end
$$;
