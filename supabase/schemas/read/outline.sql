-- Locates a page of a transcript and sums up the whole transcript.
-- Takes {project, session_id, limit} and at most one of interaction_id, after, before: cursors of turnlog.transcript.
-- Returns {total, index, after, context, models, states}. `index`: how many interactions come before the page, which
-- holds the interaction, begins after a cursor, or ends before one. `after`: the cursor with which turnlog.transcript
-- reads the page, null for the first; `context`: the same for a page that begins one interaction earlier. The page of
-- an interaction begins at a multiple of `limit`, so it stays the same. `models`: totals by model; tokens of
-- interactions without a cost are summed separately, so that a caller can estimate their price.
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
    backwards constant boolean := request ? 'before';
begin
    return (
        with transcript as (
            select i.id, coalesce(i.turn, 9223372036854775807) as turn, coalesce(i.started_at, i.created_at) as at,
                   row_number() over (order by coalesce(i.turn, 9223372036854775807), coalesce(i.started_at, i.created_at), i.id) as n,
                   i.model, i.provider, i.input_tokens, i.output_tokens, i.cost_usd,
                   coalesce(i.status, case
                       when i.error <> '' then 'failed'
                       when i.response is not null then 'completed'
                       else 'pending' end) as status
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = of_session
        ), begun as (
            select case
                       when of_interaction is not null then coalesce(
                           (select (t.n - 1) / page_size * page_size from transcript as t where t.id = of_interaction), 0)
                       when backwards then greatest((select count(*) from transcript as t
                            where (t.turn, t.at, t.id) < ((place ->> 'turn')::bigint, (place ->> 'at')::timestamptz,
                                                          (place ->> 'interaction_id')::uuid)) - page_size, 0)
                       when place is not null then (select count(*) from transcript as t
                            where (t.turn, t.at, t.id) <= ((place ->> 'turn')::bigint, (place ->> 'at')::timestamptz,
                                                           (place ->> 'interaction_id')::uuid))
                       else 0 end as index
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
          from begun as b);
end
$$;
