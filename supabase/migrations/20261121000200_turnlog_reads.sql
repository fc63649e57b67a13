-- Reading, editing and erasing. Each function takes one jsonb request and answers jsonb, as the write does.

-- What start-up and readiness ask: may this store be trusted with an acknowledgement?
create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121000200',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
$$;


-- {project, session_id} -> the session, a tombstone (erased_at set) or null.
create or replace function public.turnlog_session_v1(request jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
    select public.turnlog_session_rows_v1(request ->> 'project', array[(request ->> 'session_id')::uuid]) -> 0
$$;


-- {project, limit, user_id?, tag?, status?, from?, to?, after?: {at, session_id}} -> {sessions, after}, newest
-- first. A session's time is its started_at, or created_at where the caller gave none. `after` is null at the end.
create or replace function public.turnlog_sessions_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    of_tag constant text := request ->> 'tag';
    of_status constant text := request ->> 'status';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    after_at constant timestamptz := request #>> '{after,at}';
    after_id constant uuid := request #>> '{after,session_id}';
    ids uuid[];
    times timestamptz[];
begin
    -- one more than the page, to know whether there is a next one
    select array_agg(page.id), array_agg(page.at)
      into ids, times
      from (select s.id, coalesce(s.started_at, s.created_at) as at
              from public.ai_sessions as s
             where s.project = in_project and s.erased_at is null
               and (of_user is null or s.user_id = of_user)
               and (of_tag is null or s.tags @> array[of_tag])
               and (of_status is null or s.status = of_status)
               and (not_before is null or coalesce(s.started_at, s.created_at) >= not_before)
               and (before is null or coalesce(s.started_at, s.created_at) < before)
               and (after_at is null or (coalesce(s.started_at, s.created_at), s.id) < (after_at, after_id))
             order by coalesce(s.started_at, s.created_at) desc, s.id desc
             limit page_size + 1) as page;
    return jsonb_build_object(
        'sessions', public.turnlog_session_rows_v1(in_project, coalesce(ids[:page_size], '{}')),
        'after', case when cardinality(ids) > page_size
            then jsonb_build_object('at', times[page_size], 'session_id', ids[page_size]) end);
end
$$;


-- {project, session_id, limit, after?: {turn, at, interaction_id}} -> {session, interactions, after}: the transcript,
-- by the callers' own turn where they count them, then by time, then by id. `session` is null if there is none.
create or replace function public.turnlog_transcript_v1(request jsonb) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    with wanted as (
        select request ->> 'project' as project, (request ->> 'session_id')::uuid as session_id,
               (request ->> 'limit')::integer as page_size,
               (request #>> '{after,turn}')::bigint as after_turn, (request #>> '{after,at}')::timestamptz as after_at,
               (request #>> '{after,interaction_id}')::uuid as after_id
    ), page as (
        -- interactions without a turn come after those with one
        select i.id, coalesce(i.turn, 9223372036854775807) as turn, coalesce(i.started_at, i.created_at) as at,
               row_number() over (order by coalesce(i.turn, 9223372036854775807), coalesce(i.started_at, i.created_at), i.id) as n
          from wanted as w
          join public.ai_interactions as i on i.project = w.project and i.session_id = w.session_id
         where w.after_id is null
            or (coalesce(i.turn, 9223372036854775807), coalesce(i.started_at, i.created_at), i.id)
                > (w.after_turn, w.after_at, w.after_id)
         order by n
         limit (select w.page_size + 1 from wanted as w)
    )
    select jsonb_build_object(
        'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                      from public.ai_sessions as s join wanted as w on s.project = w.project and s.id = w.session_id),
        'interactions', (
            select coalesce(jsonb_agg(
                jsonb_build_object(
                    'interaction_id', i.id, 'key', i.key, 'session_id', i.session_id,
                    'prompt', i.prompt, 'response', i.response, 'model', i.model, 'provider', i.provider,
                    'status', coalesce(i.status, case
                        when i.error <> '' then 'failed'
                        when i.response is not null then 'completed'
                        else 'pending' end),
                    'error', i.error, 'finish_reason', i.finish_reason,
                    'started_at', i.started_at, 'completed_at', i.completed_at, 'latency_ms', i.latency_ms,
                    'time_to_first_token_ms', i.time_to_first_token_ms, 'input_tokens', i.input_tokens,
                    'output_tokens', i.output_tokens, 'cost_usd', i.cost_usd, 'participant', i.participant)
                || jsonb_build_object(
                    'reply_to', i.reply_to, 'turn', i.turn, 'tags', coalesce(to_jsonb(i.tags), '[]'),
                    'metadata', coalesce(i.metadata, '{}'), 'created_at', i.created_at)
                order by p.n), '[]')
              from page as p
              join wanted as w on true
              join public.ai_interactions as i on i.project = w.project and i.session_id = w.session_id and i.id = p.id
             where p.n <= w.page_size),
        'after', (
            select jsonb_build_object('turn', p.turn, 'at', p.at, 'interaction_id', p.id)
              from page as p
              join wanted as w on p.n = w.page_size
             where exists (select from page as next where next.n > w.page_size)))
$$;


-- {project, session_id, changes: {title?, tags?, status?, metadata?}} -> the session, a tombstone or null. The value
-- given replaces the one stored; null empties it. An edited field is the editor's: see ai_sessions.edited.
create or replace function public.turnlog_edit_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    changes constant jsonb := request -> 'changes';
begin
    update public.ai_sessions as s
       set (title, tags, status, metadata) = (
               select m.title, m.tags, coalesce(m.status, 'open'), m.metadata from jsonb_populate_record(s, changes) as m),
           edited = array(
               select f from unnest(s.edited) as f
               union
               select f from jsonb_object_keys(changes) as f where f in ('title', 'tags', 'metadata'))
     where s.project = request ->> 'project' and s.id = (request ->> 'session_id')::uuid and s.erased_at is null;
    return public.turnlog_session_v1(request);
end
$$;


-- {project, session_id} -> {session_id, erased_at, interactions: count} or null. The session's row stays as a
-- tombstone without content, so that no late replay can bring it back. Asking again changes nothing.
create or replace function public.turnlog_erase_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    gone_at timestamptz;
    gone bigint;
begin
    -- the lock comes first, in a statement of its own: the delete below then sees every append that won
    select coalesce(s.erased_at, statement_timestamp())
      into gone_at
      from public.ai_sessions as s
     where s.project = in_project and s.id = of_session
       for update;
    if not found then
        return null;
    end if;

    delete from public.ai_interactions as i where i.project = in_project and i.session_id = of_session;
    get diagnostics gone = row_count;

    update public.ai_sessions as s
       set key = null, user_id = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, ended_at = null, erased_at = gone_at
     where s.project = in_project and s.id = of_session and s.erased_at is null;
    return jsonb_build_object('session_id', of_session, 'erased_at', gone_at, 'interactions', gone);
end
$$;


do $$ begin perform public.turnlog_close_v1(); end $$;
