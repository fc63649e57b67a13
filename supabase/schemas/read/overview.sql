-- Returns statistics of a span of time in buckets of `bucket_s` seconds since 1970.
-- Takes {project, from, to, bucket_s, most, sample, most_failures, top, top_models, tiers}. Returns {interactions,
-- failures, sessions}. Each has a `share`: the fraction of the span that was read (see turnlog.sample_share), 1 for
-- all; its counts and sums are of that fraction.
--
-- interactions: {share, total, buckets, models, users, folders}. total: {interactions, completed, failed, pending,
-- abandoned, input_tokens, output_tokens, priced, cost_usd, models, latency_ms, time_to_first_token_ms}: `priced`
-- counts those with a cost, `cost_usd` is the sum of these, `models` is the number of models, latencies are [p50, p95].
-- buckets: [{at, interactions, latency_ms}]. models: [{model, provider, interactions, input_tokens, output_tokens,
-- priced, cost_usd, sizes}], the `top_models` most used ones. sizes: [{interactions, input_tokens, output_tokens}] of
-- those with tokens and without a cost, grouped by input size between two neighbours of `tiers`, since prices depend on
-- it. users: [{user_id, interactions, sessions}] and folders: [{folder_id, key, name, interactions, sessions}], the
-- `top` most active ones.
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
    bucket constant interval := make_interval(secs => (request ->> 'bucket_s')::integer);
    most constant integer := request ->> 'most';
    sample constant integer := request ->> 'sample';
    most_failures constant integer := request ->> 'most_failures';
    top constant integer := request ->> 'top';
    top_models constant integer := request ->> 'top_models';
    tiers constant bigint[] := array(select t::bigint from jsonb_array_elements_text(request -> 'tiers') as t order by 1);
    -- about a thousand slices, equally many in each bucket
    buckets constant integer := ceil(extract(epoch from before - not_before) / (request ->> 'bucket_s')::integer);
    parts constant integer := buckets * ceil(1000.0 / buckets);
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
               select date_bin(bucket, coalesce(i.started_at, i.created_at), 'epoch') as bucket, i.session_id,
                      i.model, i.provider, i.input_tokens, i.output_tokens, i.cost_usd, i.time_to_first_token_ms,
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
        select m.* from met as m
         where m.session_id <> all (array(select s.session_id from met_sessions as s where s.erased_at is not null))
    ), by_size as (
        select l.model, l.provider, count(*) as interactions, count(l.cost_usd) as priced, sum(l.cost_usd) as cost_usd,
               sum(l.input_tokens) as input_tokens, sum(l.output_tokens) as output_tokens,
               count(*) filter (where l.unpriced) as unpriced,
               coalesce(sum(l.input_tokens) filter (where l.unpriced), 0) as unpriced_input,
               coalesce(sum(l.output_tokens) filter (where l.unpriced), 0) as unpriced_output
          from (select l.*, width_bucket(coalesce(l.input_tokens, 0), tiers) as size,
                       l.cost_usd is null and num_nonnulls(l.input_tokens, l.output_tokens) > 0 as unpriced
                  from looked as l) as l
         group by l.model, l.provider, l.size
    ), by_model as (
        select s.model, s.provider, sum(s.interactions) as interactions,
               coalesce(sum(s.input_tokens), 0) as input_tokens, coalesce(sum(s.output_tokens), 0) as output_tokens,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd,
               coalesce(jsonb_agg(jsonb_build_object(
                   'interactions', s.unpriced, 'input_tokens', s.unpriced_input, 'output_tokens', s.unpriced_output))
                   filter (where s.unpriced > 0), '[]') as sizes
          from by_size as s
         group by s.model, s.provider
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
                       'priced', count(l.cost_usd), 'cost_usd', coalesce(sum(l.cost_usd), 0),
                       'models', (select count(*) from by_model),
                       'latency_ms', percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms),
                       'time_to_first_token_ms',
                       percentile_cont(array[0.5, 0.95]) within group (order by l.time_to_first_token_ms))
              from looked as l),
        'buckets', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'at', b.bucket, 'interactions', b.interactions, 'latency_ms', b.latency_ms)
                       order by b.bucket), '[]')
              from (select l.bucket, count(*) as interactions,
                           percentile_cont(array[0.5, 0.95]) within group (order by l.latency_ms) as latency_ms
                      from looked as l group by l.bucket) as b),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) order by m.interactions desc, m.model, m.provider), '[]')
              from (select m.* from by_model as m
                     order by m.interactions desc, m.model, m.provider limit top_models) as m),
        'users', (
            select coalesce(jsonb_agg(to_jsonb(u) order by u.interactions desc, u.user_id), '[]')
              from (select o.user_id, sum(o.interactions) as interactions, count(*) as sessions
                      from owned as o where o.user_id is not null
                     group by o.user_id order by 2 desc, o.user_id limit top) as u),
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
        select date_bin(bucket, i.at, 'epoch') as bucket, left(i.error, 300) as error
          from turnlog.slices(not_before, before, parts, of_failures) as slice
         cross join lateral (
               select coalesce(i.started_at, i.created_at) as at, i.error, i.session_id
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
            select coalesce(jsonb_agg(jsonb_build_object('at', b.bucket, 'failed', b.failed) order by b.bucket), '[]')
              from (select f.bucket, count(*) as failed from failed as f group by f.bucket) as b),
        'errors', (
            select coalesce(jsonb_agg(to_jsonb(e) order by e.interactions desc, e.error), '[]')
              from (select turnlog.error_kind(f.error) as error, sum(f.interactions) as interactions
                      from (select f.error, count(*) as interactions from failed as f group by f.error) as f
                     group by 1 order by 2 desc, 1 limit top) as e))
      into failures;

    select jsonb_build_object(
        'share', of_sessions,
        'total', coalesce(sum(b.sessions), 0),
        'buckets', coalesce(jsonb_agg(jsonb_build_object('at', b.bucket, 'sessions', b.sessions) order by b.bucket), '[]'))
      into sessions
      from (select date_bin(bucket, s.at, 'epoch') as bucket, count(*) as sessions
              from turnlog.slices(not_before, before, parts, of_sessions) as slice
             cross join lateral (
                   select coalesce(s.started_at, s.created_at) as at
                     from turnlog.ai_sessions as s
                    where s.project = in_project and s.erased_at is null and s.status <> 'locked'
                      and coalesce(s.started_at, s.created_at) >= slice.first
                      and coalesce(s.started_at, s.created_at) < slice.last
                   offset 0) as s
             group by 1) as b;

    return jsonb_build_object('interactions', interactions, 'failures', failures, 'sessions', sessions);
end
$$;
