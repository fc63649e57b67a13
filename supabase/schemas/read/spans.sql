-- Lists the spans of an interaction's traces that belong to its session, as OpenTelemetry has them: its own, and those
-- around it (agents, tools, other calls), of which `limit` are the closest in time. In the order in which they began.
-- Takes {project, session_id, interaction_id, limit}. Returns {session: or null, interaction: {interaction_id, key} or null,
-- spans: [{trace_id, span_id, parent_id, name, kind, scope, started_at, completed_at, failed, interaction_id: of a call,
-- is_own}], complete: these are all}.
create or replace function turnlog.spans(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some traces, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    most constant integer := request ->> 'limit';
    of_interaction record;
    own text[];     -- TRACE/SPAN of its own spans
    around_at timestamptz;
begin
    select i.id, i.key, i.trace_id, i.span_id, i.started_at
      into of_interaction
      from turnlog.ai_interactions as i
     where i.project = in_project and i.session_id = of_session and i.id = (request ->> 'interaction_id')::uuid;
    select coalesce(s.call_spans, array[s.trace_id || '/' || s.span_id]), coalesce(s.started_at, of_interaction.started_at)
      into own, around_at
      from turnlog.ai_spans as s
     where s.project = in_project and s.trace_id = of_interaction.trace_id and s.span_id = of_interaction.span_id
       and s.session_id = of_session and s.id = of_interaction.id;
    return (
        with nearby as (
            select s.*, s.trace_id || '/' || s.span_id as ref,
                   row_number() over (order by s.trace_id || '/' || s.span_id = any (own) desc,
                                      abs(extract(epoch from s.started_at - around_at)) nulls last, s.span_id) as nth
              from (select distinct split_part(r, '/', 1) as id from unnest(own) as r) as t
             cross join lateral (
                   select s.* from turnlog.ai_spans as s
                    where s.project = in_project and s.trace_id = t.id
                   offset 0) as s
             where s.session_id = of_session and s.erased_at is null
        ), listed as (
            select n.*, case when n.kind = 'call' then coalesce((
                       select c.id from turnlog.ai_spans as c
                        where c.project = in_project and c.trace_id = split_part(n.call_spans[1], '/', 1)
                          and c.span_id = split_part(n.call_spans[1], '/', 2)), n.id) end as call_id
              from nearby as n
             where n.nth <= most
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
            'interaction', case when of_interaction.id is not null then jsonb_build_object(
                'interaction_id', of_interaction.id, 'key', of_interaction.key) end,
            'spans', (select coalesce(jsonb_agg(jsonb_build_object(
                          'trace_id', l.trace_id, 'span_id', l.span_id, 'parent_id', l.parent_id, 'name', l.name,
                          'kind', l.kind, 'scope', l.scope, 'started_at', l.started_at, 'completed_at', l.completed_at,
                          'failed', coalesce(l.failed, false), 'interaction_id', l.call_id, 'is_own', l.ref = any (own))
                          order by l.started_at nulls last, l.completed_at desc, l.trace_id, l.span_id), '[]')
                        from listed as l),
            'complete', not exists (select from nearby as n where n.nth > most)));
end
$$;
