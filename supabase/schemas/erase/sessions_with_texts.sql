-- Returns those of some sessions that have texts which can expire: of interactions, comments of feedback, a title. A
-- title that people gave after the texts expired stays.
create or replace function turnlog.sessions_with_texts(in_project text, ids uuid[]) returns uuid[]
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
begin
    return (
        select coalesce(array_agg(s.id order by s.id), '{}')
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.erased_at is null
           and (s.title is not null and s.text_expired_at is null
                or exists (select from turnlog.ai_interactions as i
                            where i.project = in_project and i.session_id = s.id
                              and i.text_expired_at is null and i.erased_at is null)
                or exists (select from turnlog.ai_feedback as f
                            where f.project = in_project and f.session_id = s.id and f.comment is not null)));
end
$$;
