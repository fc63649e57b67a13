-- Lists the sessions of other users in which a user takes part, in the order of their ids.
-- Takes {project, user_id, limit, after?: session id}. Returns {sessions, after}.
create or replace function turnlog.participations(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
begin
    ids := array(
        select p.session_id
          from turnlog.ai_session_participants as p
          join turnlog.ai_sessions as s on s.project = in_project and s.id = p.session_id
         where p.project = in_project and p.participant = of_user and p.session_id > after_id
           and s.erased_at is null and s.user_id is distinct from of_user
         order by p.session_id
         limit page_size + 1);
    return jsonb_build_object(
        'sessions', turnlog.session_rows(in_project, ids[:page_size]),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;
