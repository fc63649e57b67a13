-- Lists feedback in the order of its ids, which never change: {project, session_id, limit, interaction_ids?, author?,
-- after?} lists that on a session and its interactions, {project, author, limit, after?} an author's feedback in sessions
-- of other users. The nil UUID among `interaction_ids` and in `after` stands for the session; the feedback on it has the
-- interaction_id null. A value of null was taken back. Returns {session: null without session_id, feedback, after:
-- {session_id, interaction_id, author, name}}; `after` is null at the end.
create or replace function turnlog.feedback(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
set enable_seqscan = off -- the rows of one session, or of one author, whatever the statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    by_author constant text := request ->> 'author';
    page_size constant integer := request ->> 'limit';
    among constant uuid[] := case when request ? 'interaction_ids' then array(
        select i::uuid from jsonb_array_elements_text(request -> 'interaction_ids') as i) end;
    after_session constant uuid := coalesce((request #>> '{after,session_id}')::uuid, of_session);
    after_id constant uuid := request #>> '{after,interaction_id}';
    after_author constant text := request #>> '{after,author}';
    after_name constant text := request #>> '{after,name}';
    page turnlog.ai_feedback[];
begin
    if of_session is null and by_author is null then
        raise exception using errcode = '22023', column = 'session_id', message = 'name a session or an author';
    end if;
    -- one more than the page, to know whether another page follows
    if of_session is not null then
        page := array(
            select f
              from turnlog.ai_feedback as f
             where f.project = in_project and f.session_id = of_session
               and (among is null or f.interaction_id = any (among))
               and (by_author is null or f.author = by_author)
               and (after_id is null or (f.interaction_id, f.author, f.name) > (after_id, after_author, after_name))
             order by f.interaction_id, f.author, f.name
             limit page_size + 1);
    else
        page := array(
            select f
              from turnlog.ai_feedback as f
              join turnlog.ai_sessions as s on s.project = in_project and s.id = f.session_id
             where f.project = in_project and f.author = by_author and s.user_id is distinct from by_author
               and (after_id is null or (f.session_id, f.interaction_id, f.name) > (after_session, after_id, after_name))
             order by f.session_id, f.interaction_id, f.name
             limit page_size + 1);
    end if;
    return jsonb_build_object(
        'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                      from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
        'feedback', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'session_id', p.session_id, 'interaction_id', nullif(p.interaction_id, '00000000-0000-0000-0000-000000000000'),
                       'author', nullif(p.author, ''),
                       'name', p.name, 'value', p.value, 'comment', p.comment, 'given_at', p.given_at, 'created_at', p.created_at, 'spooled', false,
                       'session_key', (select s.key from turnlog.ai_sessions as s
                                        where s.project = in_project and s.id = p.session_id),
                       'interaction_key', (select i.key from turnlog.ai_interactions as i
                                            where i.project = in_project and i.session_id = p.session_id
                                              and i.id = p.interaction_id)) order by p.ordinality), '[]')
              from unnest(page[:page_size]) with ordinality as p),
        'after', case when cardinality(page) > page_size then jsonb_build_object(
            'session_id', page[page_size].session_id, 'interaction_id', page[page_size].interaction_id,
            'author', page[page_size].author, 'name', page[page_size].name) end);
end
$$;
