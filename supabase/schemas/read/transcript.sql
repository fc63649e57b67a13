-- Returns a page of a transcript, ordered by turn (those without one last), then time, then id; with `by` 'id' by id
-- alone, so that an interaction that gains a turn or a time between two pages keeps its position.
-- Takes {project, session_id, limit, after?: {turn, at, interaction_id}, by?: 'id'}. Returns {session: or null,
-- interactions, after, complete}. The spool changes `spooled` and `complete` where records are on its disk.
create or replace function turnlog.transcript(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant integer := request ->> 'limit';
    after_turn constant bigint := request #>> '{after,turn}';
    after_at constant timestamptz := request #>> '{after,at}';
    after_id constant uuid := request #>> '{after,interaction_id}';
    by_id constant boolean := coalesce(request ->> 'by' = 'id', false);
begin
    return (
        with page as (
            select o.*, row_number() over (order by o.turn, o.at, o.id) as n
              from (
                   -- interactions without a turn come after those with one
                   select i.id, case when by_id then 0 else coalesce(i.turn, 9223372036854775807) end as turn,
                          case when by_id then 'epoch' else coalesce(i.started_at, i.created_at) end as at
                     from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session) as o
             where after_id is null or (o.turn, o.at, o.id) > (after_turn, after_at, after_id)
             order by n
             limit page_size + 1 -- to know whether another page follows
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
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
                        'output_tokens', i.output_tokens, 'participant', i.participant)
                    || jsonb_build_object(
                        'cached_input_tokens', i.cached_input_tokens, 'cache_write_tokens', i.cache_write_tokens,
                        'reasoning_tokens', i.reasoning_tokens, 'cost_usd', i.cost_usd,
                        'reply_to', i.reply_to, 'alternative_to', i.alternative_to, 'turn', i.turn, 'tags', coalesce(to_jsonb(i.tags), '[]'),
                        'metadata', coalesce(i.metadata, '{}'), 'created_at', i.created_at, 'spooled', false)
                    order by p.n), '[]')
                  from page as p
                  join turnlog.ai_interactions as i
                    on i.project = in_project and i.session_id = of_session and i.id = p.id
                 where p.n <= page_size),
            'after', (
                select jsonb_build_object('turn', p.turn, 'at', p.at, 'interaction_id', p.id)
                  from page as p
                 where p.n = page_size and exists (select from page as next where next.n > page_size)),
            'complete', true));
end
$$;
