-- Locates a page of a transcript and sums up the whole transcript.
-- Takes {project, session_id, limit} and at most one of interaction_id, after, before: cursors of turnlog.transcript.
-- Returns {total, index, after, context, branch, last, others, models, states}. `index`: how many interactions come
-- before the page, which holds the interaction, begins after a cursor, or ends before one. `after`: the cursor with which
-- turnlog.transcript reads the page, null for the first; `context`: the same for a page that begins one interaction
-- earlier. The page of an interaction begins at a multiple of `limit`, so it stays the same. `models`: totals by model;
-- tokens of interactions without a cost are summed separately, so that a caller can estimate their price: see `sizes`
-- of turnlog.overview.
-- With `branches` 'current', also `branch`, the page is one of a branch, as turnlog.transcript returns it; of an
-- interaction that isn't on it, the page is one of the branch through that. `total` and `index` are of the branch,
-- `models` and `states` of the session. `branch`: the interaction that the branch was found by, null for the current
-- one. `last`: the last interaction of the branch. `others`: how many interactions are on other branches.
create or replace function turnlog.outline(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant bigint := request ->> 'limit';
    of_interaction constant uuid := request ->> 'interaction_id';
    place constant jsonb := coalesce(request -> 'after', request -> 'before');
    place_turn constant bigint := place ->> 'turn';
    place_at constant timestamptz := place ->> 'at';
    place_arrival constant timestamptz := place ->> 'arrived';
    place_id constant uuid := place ->> 'interaction_id';
    backwards constant boolean := request ? 'before';
    with_branches constant boolean := request ->> 'branches' is not null;
    through uuid := coalesce(place ->> 'branch', request ->> 'branch');
begin
    if with_branches and of_interaction is not null and exists (
        select from turnlog.branches(in_project, of_session, through) as b where b.id = of_interaction and not b.on_branch)
    then
        through := of_interaction;
    end if;
    return (
        with tree as materialized (
            select b.id, b.turn, b.at, b.arrived, b.on_branch
              from turnlog.branches(in_project, of_session, through) as b
             where with_branches
        ), session as (
            select i.model, i.provider, i.input_tokens, i.output_tokens, i.cost_usd,
                   coalesce(i.cached_input_tokens, 0) as cached, coalesce(i.cache_write_tokens, 0) as written,
                   coalesce(i.reasoning_tokens, 0) as reasoning,
                   i.cost_usd is null and num_nonnulls(i.input_tokens, i.output_tokens) > 0 as unpriced,
                   coalesce(i.status, case
                       when i.error <> '' then 'failed'
                       when i.response is not null then 'completed'
                       else 'pending' end) as status
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = of_session
        ), transcript as (
            select t.*, row_number() over (order by t.turn, t.at, t.arrived, t.id) as n
              from (
                   select b.id, b.turn, b.at, b.arrived
                     from tree as b
                    where b.on_branch
                    union all
                   select i.id, coalesce(i.turn, 9223372036854775807),
                          least(coalesce(i.started_at, i.created_at), i.created_at), i.created_at
                     from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session and not exists (select from tree)) as t
        ), begun as (
            select case
                       when of_interaction is not null then coalesce(
                           (select (t.n - 1) / page_size * page_size from transcript as t where t.id = of_interaction), 0)
                       when backwards then greatest((select count(*) from transcript as t
                            where (t.turn, t.at, t.arrived, t.id) < (place_turn, place_at, place_arrival, place_id)) - page_size, 0)
                       when place is not null then (select count(*) from transcript as t
                            where (t.turn, t.at, t.arrived, t.id) <= (place_turn, place_at, place_arrival, place_id))
                       else 0 end as index
        )
        select jsonb_build_object(
            'total', (select count(*) from transcript),
            'index', b.index,
            'after', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'arrived', t.arrived, 'interaction_id', t.id)
                        from transcript as t where t.n = b.index),
            'context', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'arrived', t.arrived, 'interaction_id', t.id)
                          from transcript as t where t.n = b.index - 1),
            'branch', through,
            'last', (select t.id from transcript as t order by t.n desc limit 1),
            'others', (select count(*) from tree as t where not t.on_branch),
            'states', (select coalesce(jsonb_object_agg(s.status, s.interactions), '{}')
                         from (select t.status, count(*) as interactions from session as t group by t.status) as s),
            'models', (select coalesce(jsonb_agg(jsonb_build_object(
                                  'model', m.model, 'provider', m.provider, 'interactions', m.interactions,
                                  'input_tokens', m.input_tokens, 'output_tokens', m.output_tokens,
                                  'cached_input_tokens', m.cached, 'cache_write_tokens', m.written,
                                  'reasoning_tokens', m.reasoning, 'cost_usd', m.cost_usd,
                                  'unpriced', jsonb_build_object(
                                      'interactions', m.unpriced, 'input_tokens', m.unpriced_input,
                                      'output_tokens', m.unpriced_output, 'cached_input_tokens', m.unpriced_cached,
                                      'cache_write_tokens', m.unpriced_written,
                                      'reasoning_tokens', m.unpriced_reasoning))
                                  order by m.interactions desc, m.model, m.provider), '[]')
                         from (select t.model, t.provider, count(*) as interactions,
                                      sum(t.input_tokens) as input_tokens, sum(t.output_tokens) as output_tokens,
                                      sum(t.cached) as cached, sum(t.written) as written, sum(t.reasoning) as reasoning,
                                      sum(t.cost_usd) as cost_usd,
                                      count(*) filter (where t.unpriced) as unpriced,
                                      coalesce(sum(coalesce(t.input_tokens, 0) + case
                                          when t.cached + t.written > coalesce(t.input_tokens, 0) then t.cached + t.written
                                          else 0 end) filter (where t.unpriced), 0) as unpriced_input,
                                      coalesce(sum(coalesce(t.output_tokens, 0) + case
                                          when t.reasoning > coalesce(t.output_tokens, 0) then t.reasoning
                                          else 0 end) filter (where t.unpriced), 0) as unpriced_output,
                                      coalesce(sum(t.cached) filter (where t.unpriced), 0) as unpriced_cached,
                                      coalesce(sum(t.written) filter (where t.unpriced), 0) as unpriced_written,
                                      coalesce(sum(t.reasoning) filter (where t.unpriced), 0) as unpriced_reasoning
                                 from session as t
                                group by t.model, t.provider) as m))
          from begun as b);
end
$$;
