-- {project, session_id, limit, after?: {turn, at, interaction_id}, by?: 'id'} -> {session, interactions, after, complete}: the
-- transcript, by the callers' own turn where they count them, then by time, then by id; or by id alone, so that an
-- interaction that gains a turn or a time between two pages keeps its place. `session` is null if there is none.
-- `spooled` and `complete` are for what the service knows of its own disk.
create or replace function turnlog.transcript(request jsonb) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    with wanted as (
        select request ->> 'project' as project, (request ->> 'session_id')::uuid as session_id,
               (request ->> 'limit')::integer as page_size,
               (request #>> '{after,turn}')::bigint as after_turn, (request #>> '{after,at}')::timestamptz as after_at,
               (request #>> '{after,interaction_id}')::uuid as after_id,
               coalesce(request ->> 'by' = 'id', false) as by_id
    ), page as (
        select o.*, row_number() over (order by o.turn, o.at, o.id) as n
          from wanted as w
         cross join lateral (
               -- interactions without a turn come after those with one
               select i.id, case when w.by_id then 0 else coalesce(i.turn, 9223372036854775807) end as turn,
                      case when w.by_id then 'epoch' else coalesce(i.started_at, i.created_at) end as at
                 from turnlog.ai_interactions as i
                where i.project = w.project and i.session_id = w.session_id) as o
         where w.after_id is null or (o.turn, o.at, o.id) > (w.after_turn, w.after_at, w.after_id)
         order by n
         limit (select w.page_size + 1 from wanted as w)
    )
    select jsonb_build_object(
        'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                      from turnlog.ai_sessions as s join wanted as w on s.project = w.project and s.id = w.session_id),
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
                    'metadata', coalesce(i.metadata, '{}'), 'created_at', i.created_at, 'spooled', false)
                order by p.n), '[]')
              from page as p
              join wanted as w on true
              join turnlog.ai_interactions as i on i.project = w.project and i.session_id = w.session_id and i.id = p.id
             where p.n <= w.page_size),
        'after', (
            select jsonb_build_object('turn', p.turn, 'at', p.at, 'interaction_id', p.id)
              from page as p
              join wanted as w on p.n = w.page_size
             where exists (select from page as next where next.n > w.page_size)),
        'complete', true)
$$;
