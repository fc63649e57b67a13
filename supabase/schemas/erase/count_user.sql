-- Counts the data of a user, `limit` sessions per call: first the user's own sessions, then others' sessions in which
-- the user takes part, and with the last page of those the user's folders and feedback on others' sessions. Sum up all
-- pages. Takes {project, user_id, limit, after?}. Returns {sessions, interactions, participants, feedback,
-- participations, turns, folders, after}; `after` is null on the last page.
create or replace function turnlog.count_user(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_at constant timestamptz := request #>> '{after,at}';
    after_id constant uuid := request #>> '{after,session_id}';
    after_elsewhere constant uuid := request #>> '{after,elsewhere}';
    ids uuid[];
    times timestamptz[];
begin
    if after_elsewhere is null then
        select coalesce(array_agg(page.id), '{}'), array_agg(page.at)
          into ids, times
          from (select s.id, coalesce(s.started_at, s.earliest_turn_at, s.created_at) as at
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.user_id = of_user and s.erased_at is null
                   and (after_at is null or (coalesce(s.started_at, s.earliest_turn_at, s.created_at), s.id) < (after_at, after_id))
                 order by coalesce(s.started_at, s.earliest_turn_at, s.created_at) desc, s.id desc
                 limit page_size) as page;
        return jsonb_build_object(
            'sessions', cardinality(ids),
            'interactions', (select count(*) from turnlog.ai_interactions as i
                              where i.project = in_project and i.session_id = any (ids)),
            'participants', (select count(*) from turnlog.ai_session_participants as p
                              where p.project = in_project and p.session_id = any (ids)),
            'feedback', (select count(*) from turnlog.ai_feedback as f
                          where f.project = in_project and f.session_id = any (ids)),
            'after', case when cardinality(ids) = page_size
                then jsonb_build_object('at', times[page_size], 'session_id', ids[page_size])
                else '{"elsewhere": "00000000-0000-0000-0000-000000000000"}' end);
    end if;
    ids := array(
        select p.session_id
          from turnlog.ai_session_participants as p
         where p.project = in_project and p.participant = of_user and p.session_id > after_elsewhere
         order by p.session_id
         limit page_size);
    return (
        select jsonb_build_object(
                   'participations', count(*),
                   'turns', coalesce(sum((
                       select count(*) from turnlog.ai_interactions as i
                        where i.project = in_project and i.session_id = s.id and i.participant = of_user)), 0),
                   'folders', case when cardinality(ids) < page_size then (
                       select count(*) from turnlog.ai_session_folders as f
                        where f.project = in_project and f.user_id = of_user) else 0 end,
                   -- others' on the user's turns
                   'feedback', coalesce(sum((
                       select count(*) from turnlog.ai_feedback as f
                        where f.project = in_project and f.session_id = s.id and f.author <> of_user
                          and exists (select from turnlog.ai_interactions as i
                                       where i.project = in_project and i.session_id = s.id
                                         and i.id = f.interaction_id and i.participant = of_user))), 0)
                   + case when cardinality(ids) < page_size then (
                       select count(*) from turnlog.ai_feedback as f
                         join turnlog.ai_sessions as s on s.project = in_project and s.id = f.session_id
                        where f.project = in_project and f.author = of_user
                          and s.user_id is distinct from of_user) else 0 end,
                   'after', case when cardinality(ids) = page_size
                       then jsonb_build_object('elsewhere', ids[page_size]) end)
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (ids) and s.user_id is distinct from of_user);
end
$$;
