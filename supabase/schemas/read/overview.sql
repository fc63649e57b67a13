-- Returns statistics of a span of time in buckets, given by when each begins: the first at `from`, in order.
-- Takes {project, from, to, buckets, most, sample, most_failures, top, top_models, tiers, eras}. Returns {interactions,
-- failures, sessions}. Each has a `share`: the fraction of the span that was read (see turnlog.sample_share), 1 for
-- all; its counts and sums are of that fraction.
--
-- interactions: {share, total, buckets, models, users, folders}. <tokens>: input_tokens, output_tokens,
-- cached_input_tokens, cache_write_tokens, reasoning_tokens. total: {interactions, completed, failed, pending, abandoned,
-- <tokens>, priced, cost_usd, models, latency_ms, time_to_first_token_ms}: `priced` counts those with a cost, `cost_usd`
-- is the sum of these, `models` is the number of models, latencies are [p50, p95]. buckets: [{at, interactions,
-- latency_ms}]. models: [{model, provider, interactions, <tokens>, priced, cost_usd, sizes}], the `top_models` most used
-- ones. sizes: [{model, provider, era, interactions, <tokens>}] of those with tokens and without a cost, grouped by
-- their input between two neighbours of `tiers` and by their time between two of `eras` (`era`: how many of these had
-- begun), since prices depend on both. There the input includes what a cache read and wrote, and the output the
-- reasoning: where they are more than the whole, they were counted apart, and are added. users: [{user_id, interactions,
-- sessions, <tokens>, priced, cost_usd, sizes}] and folders: [{folder_id, key, name, interactions, sessions}], the `top`
-- most active ones.
-- failures: {share, total, buckets: [{at, failed}], errors: [{error, interactions}]}, the `top` most frequent kinds:
-- see turnlog.error_kind. sessions: {share, total, buckets: [{at, sessions}]}: those that began, without locked ones.
create or replace function turnlog.overview(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- slices of an index, never a whole table, whatever its statistics say
set work_mem = '64MB' -- holds all rows read, which are bounded; on disk it would take twice as long
set jit = off -- to compile it takes longer than to run it
as $$
declare
    in_project constant text := request ->> 'project';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    starts constant timestamptz[] := array(
        select b.at::timestamptz from jsonb_array_elements_text(request -> 'buckets') with ordinality as b (at, n) order by b.n);
    most constant integer := request ->> 'most';
    sample constant integer := request ->> 'sample';
    most_failures constant integer := request ->> 'most_failures';
    top constant integer := request ->> 'top';
    top_models constant integer := request ->> 'top_models';
    tiers constant bigint[] := array(select t::bigint from jsonb_array_elements_text(request -> 'tiers') as t order by 1);
    eras constant timestamptz[] := array(select t::timestamptz from jsonb_array_elements_text(request -> 'eras') as t order by 1);
    -- about a thousand slices, equally many in each bucket
    parts constant integer := cardinality(starts) * ceil(1000.0 / cardinality(starts));
    of_interactions constant double precision :=
        turnlog.sample_share(in_project, 'interactions', not_before, before, parts, most, sample);
    of_failures constant double precision :=
        turnlog.sample_share(in_project, 'failures', not_before, before, parts, most_failures, most_failures);
    of_sessions constant double precision :=
        turnlog.sample_share(in_project, 'sessions', not_before, before, parts, most, sample);
    interactions jsonb;
    failures jsonb;
    sessions jsonb;
begin
    with met as materialized (
        select i.*
          from turnlog.slices(not_before, before, parts, of_interactions) as slice
         cross join lateral (
               select width_bucket(coalesce(i.started_at, i.created_at), starts) as bucket, i.session_id,
                      i.model, i.provider, i.input_tokens, i.output_tokens, i.cached_input_tokens, i.cache_write_tokens,
                      i.reasoning_tokens, i.cost_usd, i.time_to_first_token_ms,
                      width_bucket(coalesce(i.started_at, i.created_at), eras) as era,
                      coalesce(i.latency_ms, case when i.completed_at >= i.started_at
                          then extract(epoch from i.completed_at - i.started_at) * 1000 end) as latency_ms,
                      coalesce(i.status, case
                          when i.error <> '' then 'failed'
                          when i.response is not null then 'completed'
                          else 'pending' end) as status
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.erased_at is null
                  and coalesce(i.started_at, i.created_at) >= slice.first
                  and coalesce(i.started_at, i.created_at) < slice.last
               offset 0) as i
    ), met_sessions as materialized (
        -- one lookup by primary key each
        select m.session_id, m.interactions, (s.owner).user_id, (s.owner).folder_id, (s.owner).erased_at
          from (select m.session_id, count(*) as interactions from met as m group by m.session_id) as m
         cross join lateral (
               select s as owner from turnlog.ai_sessions as s where s.project = in_project and s.id = m.session_id
               offset 0) as s
    ), owned as (
        select s.* from met_sessions as s where s.erased_at is null
    ), looked as materialized (
        -- A session that is being erased is a tombstone already. Neither a join nor `not in`: for a large log the planner
        -- expects so many that it would scan all sessions for each interaction. An array is built once, usually empty.
        select m.*, width_bucket(m.input, tiers) as tier
          from (select m.*,
                       m.cost_usd is null and num_nonnulls(m.input_tokens, m.output_tokens) > 0 as unpriced,
                       coalesce(m.input_tokens, 0) + case
                           when coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) > coalesce(m.input_tokens, 0)
                           then coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) else 0 end as input,
                       coalesce(m.output_tokens, 0) + case
                           when m.reasoning_tokens > coalesce(m.output_tokens, 0) then m.reasoning_tokens else 0 end as output
                  from met as m
                 where m.session_id <> all (array(select s.session_id from met_sessions as s where s.erased_at is not null))) as m
    ), by_size as (
        select l.model, l.provider, l.era, count(*) as interactions, count(l.cost_usd) as priced,
               sum(l.cost_usd) as cost_usd, sum(l.input_tokens) as input_tokens, sum(l.output_tokens) as output_tokens,
               sum(l.cached_input_tokens) as cached_input_tokens, sum(l.cache_write_tokens) as cache_write_tokens,
               sum(l.reasoning_tokens) as reasoning_tokens,
               count(*) filter (where l.unpriced) as unpriced,
               jsonb_build_object(
                   'model', l.model, 'provider', l.provider, 'era', l.era,
                   'interactions', count(*) filter (where l.unpriced),
                   'input_tokens', coalesce(sum(l.input) filter (where l.unpriced), 0),
                   'output_tokens', coalesce(sum(l.output) filter (where l.unpriced), 0),
                   'cached_input_tokens', coalesce(sum(l.cached_input_tokens) filter (where l.unpriced), 0),
                   'cache_write_tokens', coalesce(sum(l.cache_write_tokens) filter (where l.unpriced), 0),
                   'reasoning_tokens', coalesce(sum(l.reasoning_tokens) filter (where l.unpriced), 0)) as size
          from looked as l
         group by l.model, l.provider, l.era, l.tier
    ), by_model as (
        select s.model, s.provider, sum(s.interactions) as interactions,
               coalesce(sum(s.input_tokens), 0) as input_tokens, coalesce(sum(s.output_tokens), 0) as output_tokens,
               coalesce(sum(s.cached_input_tokens), 0) as cached_input_tokens,
               coalesce(sum(s.cache_write_tokens), 0) as cache_write_tokens,
               coalesce(sum(s.reasoning_tokens), 0) as reasoning_tokens,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd,
               coalesce(jsonb_agg(s.size) filter (where s.unpriced > 0), '[]') as sizes
          from by_size as s
         group by s.model, s.provider
    ), active_users as materialized (
        select o.user_id, sum(o.interactions) as interactions, count(*) as sessions
          from owned as o where o.user_id is not null
         group by o.user_id order by 2 desc, o.user_id limit top
    ), by_user as (
        select s.user_id, coalesce(sum(s.input_tokens), 0) as input_tokens, coalesce(sum(s.output_tokens), 0) as output_tokens,
               coalesce(sum(s.cached_input_tokens), 0) as cached_input_tokens,
               coalesce(sum(s.cache_write_tokens), 0) as cache_write_tokens,
               coalesce(sum(s.reasoning_tokens), 0) as reasoning_tokens,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd,
               coalesce(jsonb_agg(s.size) filter (where s.unpriced > 0), '[]') as sizes
          from (select o.user_id, count(l.cost_usd) as priced, sum(l.cost_usd) as cost_usd,
                       sum(l.input_tokens) as input_tokens, sum(l.output_tokens) as output_tokens,
                       sum(l.cached_input_tokens) as cached_input_tokens, sum(l.cache_write_tokens) as cache_write_tokens,
                       sum(l.reasoning_tokens) as reasoning_tokens,
                       count(*) filter (where l.unpriced) as unpriced,
                       jsonb_build_object(
                           'model', l.model, 'provider', l.provider, 'era', l.era,
                           'interactions', count(*) filter (where l.unpriced),
                           'input_tokens', coalesce(sum(l.input) filter (where l.unpriced), 0),
                           'output_tokens', coalesce(sum(l.output) filter (where l.unpriced), 0),
                           'cached_input_tokens', coalesce(sum(l.cached_input_tokens) filter (where l.unpriced), 0),
                           'cache_write_tokens', coalesce(sum(l.cache_write_tokens) filter (where l.unpriced), 0),
                           'reasoning_tokens', coalesce(sum(l.reasoning_tokens) filter (where l.unpriced), 0)) as size
                  from looked as l
                  join owned as o on o.session_id = l.session_id
                 where o.user_id in (select a.user_id from active_users as a)
                 group by o.user_id, l.model, l.provider, l.era, l.tier) as s
         group by s.user_id
    )
    select jsonb_build_object(
        'share', of_interactions,
        'total', (
            select jsonb_build_object(
                       'interactions', count(*),
                       'completed', count(*) filter (where l.status = 'completed'),
                       'failed', count(*) filter (where l.status = 'failed'),
                       'pending', count(*) filter (where l.status = 'pending'),
                       'abandoned', count(*) filter (where l.status = 'abandoned'),
                       'input_tokens', coalesce(sum(l.input_tokens), 0),
                       'output_tokens', coalesce(sum(l.output_tokens), 0),
                       'cached_input_tokens', coalesce(sum(l.cached_input_tokens), 0),
                       'cache_write_tokens', coalesce(sum(l.cache_write_tokens), 0),
                       'reasoning_tokens', coalesce(sum(l.reasoning_tokens), 0),
                       'priced', count(l.cost_usd), 'cost_usd', coalesce(sum(l.cost_usd), 0),
                       'models', (select count(*) from by_model),
                       'latency_ms', percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms),
                       'time_to_first_token_ms',
                       percentile_cont(array[0.5, 0.95]) within group (order by l.time_to_first_token_ms))
              from looked as l),
        'buckets', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'at', starts[b.bucket], 'interactions', b.interactions, 'latency_ms', b.latency_ms)
                       order by b.bucket), '[]')
              from (select l.bucket, count(*) as interactions,
                           percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms) as latency_ms
                      from looked as l group by l.bucket) as b),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) order by m.interactions desc, m.model, m.provider), '[]')
              from (select m.* from by_model as m
                     order by m.interactions desc, m.model, m.provider limit top_models) as m),
        'users', (
            select coalesce(jsonb_agg(to_jsonb(a) || to_jsonb(u) order by a.interactions desc, a.user_id), '[]')
              from active_users as a
              join by_user as u on u.user_id = a.user_id),
        'folders', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'folder_id', f.id, 'key', f.key, 'name', f.name, 'interactions', b.interactions,
                       'sessions', b.sessions) order by b.interactions desc, f.id), '[]')
              from (select o.folder_id, sum(o.interactions) as interactions, count(*) as sessions
                      from owned as o where o.folder_id is not null
                     group by o.folder_id order by 2 desc, o.folder_id limit top) as b
              join turnlog.ai_session_folders as f on f.project = in_project and f.id = b.folder_id))
      into interactions;

    with failed as materialized (
        select width_bucket(i.at, starts) as bucket, left(i.error, 300) as error,
               i.text_expired_at is not null as is_kind -- see turnlog.expire_texts
          from turnlog.slices(not_before, before, parts, of_failures) as slice
         cross join lateral (
               select coalesce(i.started_at, i.created_at) as at, i.error, i.text_expired_at, i.session_id
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.erased_at is null
                  and (i.status = 'failed' or i.status is null and i.error <> '')
                  and coalesce(i.started_at, i.created_at) >= slice.first
                  and coalesce(i.started_at, i.created_at) < slice.last
               offset 0) as i
         -- one lookup each, as above: without sessions that are being erased
         where (select true from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = i.session_id and s.erased_at is null limit 1)
    )
    select jsonb_build_object(
        'share', of_failures,
        'total', (select count(*) from failed),
        'buckets', (
            select coalesce(jsonb_agg(jsonb_build_object('at', starts[b.bucket], 'failed', b.failed) order by b.bucket), '[]')
              from (select f.bucket, count(*) as failed from failed as f group by f.bucket) as b),
        'errors', (
            select coalesce(jsonb_agg(to_jsonb(e) order by e.interactions desc, e.error), '[]')
              from (select case when f.is_kind then nullif(f.error, ' ') else turnlog.error_kind(f.error) end as error,
                           sum(f.interactions) as interactions
                      from (select f.error, f.is_kind, count(*) as interactions from failed as f
                             group by f.error, f.is_kind) as f
                     group by 1 order by 2 desc, 1 limit top) as e))
      into failures;

    select jsonb_build_object(
        'share', of_sessions,
        'total', coalesce(sum(b.sessions), 0),
        'buckets', coalesce(jsonb_agg(jsonb_build_object('at', starts[b.bucket], 'sessions', b.sessions) order by b.bucket), '[]'))
      into sessions
      from (select width_bucket(s.at, starts) as bucket, count(*) as sessions
              from turnlog.slices(not_before, before, parts, of_sessions) as slice
             cross join lateral (
                   select coalesce(s.started_at, s.earliest_turn_at, s.created_at) as at
                     from turnlog.ai_sessions as s
                    where s.project = in_project and s.erased_at is null and s.status <> 'locked'
                      and coalesce(s.started_at, s.earliest_turn_at, s.created_at) >= slice.first
                      and coalesce(s.started_at, s.earliest_turn_at, s.created_at) < slice.last
                   offset 0) as s
             group by 1) as b;

    return jsonb_build_object('interactions', interactions, 'failures', failures, 'sessions', sessions);
end
$$;
