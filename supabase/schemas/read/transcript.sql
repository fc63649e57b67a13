-- Returns a page of a transcript, ordered by turn (those without one last), then by the time said, then by arrival;
-- with `by` 'id' by id alone, so that an interaction that gains a turn or a time between two pages keeps its position.
-- The time said is started_at, but no later than the arrival: a clock that is ahead can't pin an interaction to the end.
-- Takes {project, session_id, limit, after?: {turn, at, arrived, interaction_id, branch?}, by?: 'id', branches?:
-- 'current' or 'all', branch?: interaction id, latest?: true, context?: true}. Returns {session: or null, interactions, after,
-- branch, complete}; with `latest` the last page, and `before`, whether interactions come before it.
-- A page with large prompts or responses, such as photos, is shorter than `limit`.
-- The spool changes `spooled` and `complete` where records are on its disk.
-- `branches`: 'current' returns the current branch only, or with `branch` the one that leads through that interaction
-- (see turnlog.branches); 'all' returns all interactions. Both list the `alternatives` of each, in the order said: the 50
-- before and after it at most, and itself; `current`: on the current branch. Left out, all are returned without alternatives.
-- A branch also has for each the `question` that it answers if it has no prompt: {interaction_id, key, participant,
-- prompt, asked_at} of the one in whose place it stands, or null.
-- `after` holds the last interaction of the branch, so the next page goes on with the same one. The answer's `branch` is
-- the interaction through which the branch leads, null for the current one.
-- `context`: interactions come with what was sent before their prompts; else their `context` is null.
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
    after_arrival constant timestamptz := request #>> '{after,arrived}';
    after_id constant uuid := request #>> '{after,interaction_id}';
    most_bytes constant bigint := 32000000; -- as stored, before the last interaction of a page: readers hold it in memory
    most_steps constant integer := 100;
    by_id constant boolean := coalesce(request ->> 'by' = 'id', false);
    with_branches constant boolean := request ->> 'branches' is not null;
    in_all constant boolean := coalesce(request ->> 'branches' = 'all', false);
    through constant uuid := coalesce(request #>> '{after,branch}', request ->> 'branch');
    latest constant boolean := coalesce((request ->> 'latest')::boolean, false);
    with_context constant boolean := coalesce((request ->> 'context')::boolean, false);
    found jsonb;
begin
    found := (
        with recursive tree as materialized (
            select b.id, b.turn, b.at, b.arrived, b.on_branch, b.is_current,
                   coalesce(b.follows, '00000000-0000-0000-0000-000000000000') as follows,
                   row_number() over (partition by b.follows order by b.at, b.arrived, b.id) as nth,
                   count(*) over (partition by b.follows) as alternatives
              from turnlog.branches(in_project, of_session, through) as b
             where with_branches
        ), listed as (
            select t.id, t.turn, t.at, t.arrived, t.follows, t.nth, t.alternatives
              from tree as t
             where in_all or t.on_branch
            union all
            -- interactions without a turn come after those with one
            select i.id, case when by_id then 0 else coalesce(i.turn, 9223372036854775807) end,
                   case when by_id then 'epoch' else least(coalesce(i.started_at, i.created_at), i.created_at) end,
                   case when by_id then 'epoch' else i.created_at end, null, 1, 1
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = of_session and not exists (select from tree)
        ), page as (
            select o.*, row_number() over (order by o.turn, o.at, o.arrived, o.id)
                   - case when latest then greatest(0, (select count(*) from listed) - page_size) else 0 end as n
              from listed as o
             where after_id is null or (o.turn, o.at, o.arrived, o.id) > (after_turn, after_at, after_arrival, after_id)
             order by n
             limit page_size + 1 -- one more, to know whether another page follows
            offset case when latest then greatest(0, (select count(*) from listed) - page_size) else 0 end
        ), instead as ( -- from one without a prompt to the one in whose place it stands, until one has the question
            select p.id as answer, coalesce(i.alternative_to, i.reply_to) as id, 1 as step
              from page as p
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = p.id
             where not in_all and exists (select from tree)
               and i.prompt is null and i.erased_at is null
            union all
            select s.answer, coalesce(i.alternative_to, i.reply_to), s.step + 1
              from instead as s
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = s.id
             where s.step < most_steps and i.prompt is null and i.erased_at is null
        ), questions as (
            select s.answer, i.id, i.key, i.participant, i.prompt, coalesce(i.started_at, i.created_at) as asked_at,
                   case when i.context is null then i.instructions end as instructions, i.context_end, i.prompt_end, i.response_end
              from instead as s
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = s.id
             where i.prompt is not null and i.erased_at is null
        ), sized as (
            select p.n,
                   coalesce(sum(coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0)
                                + coalesce(pg_column_size(q.prompt), 0)
                                + coalesce((select m.bytes from turnlog.ai_messages as m
                                             where m.project = in_project and m.session_id = of_session
                                               and m.id = coalesce(i.response_end, i.prompt_end, i.context_end)), 0)
                                + coalesce((select m.bytes from turnlog.ai_messages as m
                                             where m.project = in_project and m.session_id = of_session
                                               and m.id = coalesce(q.response_end, q.prompt_end)), 0)
                                - coalesce((select m.bytes from turnlog.ai_messages as m
                                             where m.project = in_project and m.session_id = of_session
                                               and m.id = i.context_end and not with_context), 0))
                       over (order by case when latest then -p.n else p.n end
                             rows between unbounded preceding and 1 preceding), 0) as bytes_before
              from page as p
              join turnlog.ai_interactions as i
                on i.project = in_project and i.session_id = of_session and i.id = p.id
              left join questions as q on q.answer = p.id
        ), shown as (
            select s.n from sized as s where s.n <= page_size and s.bytes_before <= most_bytes
        ), alternatives as (
            select p.id, jsonb_agg(jsonb_build_object('interaction_id', t.id, 'key', i.key, 'current', t.is_current)
                                   order by t.nth) as list
              from page as p
              join tree as t on t.follows = p.follows and t.nth between p.nth - 50 and p.nth + 50
              join turnlog.ai_interactions as i on i.project = in_project and i.session_id = of_session and i.id = t.id
             where p.alternatives > 1 and p.n <= page_size
             group by p.id
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
            'interactions', (
                select coalesce(jsonb_agg(
                    jsonb_build_object(
                        'interaction_id', i.id, 'key', i.key, 'session_id', i.session_id,
                        'prompt', i.prompt, 'context', i.context, 'response', i.response, 'model', i.model, 'provider', i.provider,
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
                        'reply_to', i.reply_to, 'alternative_to', i.alternative_to, 'chosen_at', i.chosen_at,
                        'alternatives', coalesce(a.list, '[]'), 'turn', i.turn,
                        'trace_id', i.trace_id, 'span_id', i.span_id, 'tags', coalesce(to_jsonb(i.tags), '[]'),
                        'metadata', coalesce(i.metadata, '{}'), 'created_at', i.created_at, 'erased_at', i.erased_at,
                        'text_expired_at', i.text_expired_at, 'spooled', false)
                    || case when i.prompt_end is null and i.context is null then '{}'
                            else jsonb_build_object('ends', jsonb_build_array(
                                i.instructions, i.context_end, i.prompt_end, i.response_end)) end
                    || case when with_branches then jsonb_build_object('question', case when q.id is not null then
                        jsonb_build_object('interaction_id', q.id, 'key', q.key, 'participant', q.participant,
                                           'prompt', q.prompt, 'asked_at', q.asked_at)
                        || case when q.prompt_end is null then '{}'
                                else jsonb_build_object('ends', jsonb_build_array(
                                    q.instructions, q.context_end, q.prompt_end, q.response_end)) end end) else '{}' end
                    order by p.n), '[]')
                  from page as p
                  join turnlog.ai_interactions as i
                    on i.project = in_project and i.session_id = of_session and i.id = p.id
                  left join alternatives as a on a.id = p.id
                  left join questions as q on q.answer = p.id
                 where p.n in (select s.n from shown as s)),
            'after', (
                select jsonb_build_object('turn', p.turn, 'at', p.at, 'arrived', p.arrived, 'interaction_id', p.id)
                       || case when with_branches and not in_all then jsonb_build_object('branch', (
                              select l.id from listed as l order by l.turn desc, l.at desc, l.arrived desc, l.id desc limit 1))
                          else '{}' end
                  from page as p
                 where p.n = (select max(s.n) from shown as s) and exists (select from page as next where next.n > p.n)),
            'branch', (select i.id from turnlog.ai_interactions as i
                        where i.project = in_project and i.session_id = of_session and i.id = through),
            'complete', true)
            || case when latest then jsonb_build_object(
                'before', (select count(*) from shown) < (select count(*) from listed)) else '{}' end);
    return found || jsonb_build_object('interactions', turnlog.with_messages(
        in_project, of_session, found -> 'interactions', with_context));
end
$$;
