-- {project, session_id, limit, and at most one of interaction_id, after, before: places as of turnlog.transcript} ->
-- {total, index, after, context, models, states}. `index`: how many interactions stand before the page that holds the
-- interaction, begins after a place, or ends before one; `after`: the place that turnlog.transcript takes to read that
-- page, null for the first; `context`: the same for a page that begins one interaction earlier. An interaction's page begins at a multiple of `limit`, so that it stays the same page.
-- `models`: what was logged by model; what has tokens and no cost is summed up apart, so that somebody can estimate it.
create or replace function turnlog.outline(request jsonb) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    with wanted as (
        select request ->> 'project' as project, (request ->> 'session_id')::uuid as session_id,
               (request ->> 'limit')::bigint as page_size, (request ->> 'interaction_id')::uuid as interaction_id,
               coalesce(request -> 'after', request -> 'before') as place, request ? 'before' as backwards
    ), transcript as (
        select i.id, coalesce(i.turn, 9223372036854775807) as turn, coalesce(i.started_at, i.created_at) as at,
               row_number() over (order by coalesce(i.turn, 9223372036854775807), coalesce(i.started_at, i.created_at), i.id) as n,
               i.model, i.provider, i.input_tokens, i.output_tokens, i.cost_usd,
               coalesce(i.status, case
                   when i.error <> '' then 'failed'
                   when i.response is not null then 'completed'
                   else 'pending' end) as status
          from turnlog.ai_interactions as i
          join wanted as w on i.project = w.project and i.session_id = w.session_id
    ), begun as (
        select case
                   when w.interaction_id is not null then coalesce(
                       (select (t.n - 1) / w.page_size * w.page_size from transcript as t where t.id = w.interaction_id), 0)
                   when w.backwards then greatest((select count(*) from transcript as t
                        where (t.turn, t.at, t.id) < ((w.place ->> 'turn')::bigint, (w.place ->> 'at')::timestamptz,
                                                      (w.place ->> 'interaction_id')::uuid)) - w.page_size, 0)
                   when w.place is not null then (select count(*) from transcript as t
                        where (t.turn, t.at, t.id) <= ((w.place ->> 'turn')::bigint, (w.place ->> 'at')::timestamptz,
                                                       (w.place ->> 'interaction_id')::uuid))
                   else 0 end as index
          from wanted as w
    )
    select jsonb_build_object(
        'total', (select count(*) from transcript),
        'index', b.index,
        'after', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'interaction_id', t.id)
                    from transcript as t where t.n = b.index),
        'context', (select jsonb_build_object('turn', t.turn, 'at', t.at, 'interaction_id', t.id)
                      from transcript as t where t.n = b.index - 1),
        'states', (select coalesce(jsonb_object_agg(s.status, s.interactions), '{}')
                     from (select t.status, count(*) as interactions from transcript as t group by t.status) as s),
        'models', (select coalesce(jsonb_agg(jsonb_build_object(
                              'model', m.model, 'provider', m.provider, 'interactions', m.interactions,
                              'input_tokens', m.input_tokens, 'output_tokens', m.output_tokens, 'cost_usd', m.cost_usd,
                              'unpriced', jsonb_build_object('interactions', m.unpriced, 'input_tokens', m.unpriced_in,
                                                             'output_tokens', m.unpriced_out))
                              order by m.interactions desc, m.model, m.provider), '[]')
                     from (select t.model, t.provider, count(*) as interactions,
                                  sum(t.input_tokens) as input_tokens, sum(t.output_tokens) as output_tokens,
                                  sum(t.cost_usd) as cost_usd,
                                  count(*) filter (where t.cost_usd is null
                                      and coalesce(t.input_tokens, t.output_tokens) is not null) as unpriced,
                                  sum(t.input_tokens) filter (where t.cost_usd is null) as unpriced_in,
                                  sum(t.output_tokens) filter (where t.cost_usd is null) as unpriced_out
                             from transcript as t
                            group by t.model, t.provider) as m))
      from begun as b
$$;
