-- Sums up tokens and costs of the users of a span of time, those with the most tokens first.
-- Takes {project, from, to, most, sample, limit, tiers, eras, user_id?, after?: {tokens, user_id}}. Returns {share,
-- total, users, user_count, after}. `share`: the fraction of the span that was read, as in turnlog.overview; of one
-- user all is read. total: {interactions, priced, cost_usd, <tokens>, sizes}, of all users and of sessions without one.
-- users: [{user_id, sessions, …}], with the same fields. For <tokens>, priced, cost_usd and sizes see turnlog.overview.
-- `after` is null at the end.
create or replace function turnlog.usage(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- one user's sessions, or a span of time: never a plan for both
set enable_seqscan = off -- slices of an index, never a whole table, whatever its statistics say
set work_mem = '64MB' -- a row for each session and model
set jit = off -- to compile it takes longer than to run it
as $$
declare
    in_project constant text := request ->> 'project';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    of_user constant text := request ->> 'user_id';
    page_size constant integer := request ->> 'limit';
    after_tokens constant numeric := request #>> '{after,tokens}';
    after_user constant text := request #>> '{after,user_id}';
    tiers constant bigint[] := array(select t::bigint from jsonb_array_elements_text(request -> 'tiers') as t order by 1);
    eras constant timestamptz[] := array(select t::timestamptz from jsonb_array_elements_text(request -> 'eras') as t order by 1);
    parts constant integer := 1000;
    share double precision := 1;
    found jsonb;
begin
    if of_user is null then
        share := turnlog.sample_share(in_project, 'interactions', not_before, before, parts,
                                      (request ->> 'most')::integer, (request ->> 'sample')::integer);
    end if;
    with met as (
        select i.*
          from turnlog.slices(not_before, before, parts, share) as slice
         cross join lateral (
               select i.*
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.erased_at is null
                  and coalesce(i.started_at, i.created_at) >= slice.first
                  and coalesce(i.started_at, i.created_at) < slice.last
               offset 0) as i
         where of_user is null
         union all
        select i.*
          from (select s.id from turnlog.ai_sessions as s
                 where s.project = in_project and s.user_id = of_user and s.erased_at is null offset 0) as s
         cross join lateral (
               select i.*
                 from turnlog.ai_interactions as i
                where i.project = in_project and i.session_id = s.id and i.erased_at is null
                  and coalesce(i.started_at, i.created_at) >= not_before
                  and coalesce(i.started_at, i.created_at) < before
               offset 0) as i
         where of_user is not null
    ), counted as (
        select m.session_id, m.model, m.provider, m.input_tokens, m.output_tokens, m.cost_usd,
               m.cached_input_tokens, m.cache_write_tokens, m.reasoning_tokens,
               width_bucket(coalesce(m.started_at, m.created_at), eras) as era,
               m.cost_usd is null and num_nonnulls(m.input_tokens, m.output_tokens) > 0 as unpriced,
               coalesce(m.input_tokens, 0) + case
                   when coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) > coalesce(m.input_tokens, 0)
                   then coalesce(m.cached_input_tokens, 0) + coalesce(m.cache_write_tokens, 0) else 0 end as input,
               coalesce(m.output_tokens, 0) + case
                   when m.reasoning_tokens > coalesce(m.output_tokens, 0) then m.reasoning_tokens else 0 end as output
          from met as m
    ), by_session as materialized (
        select c.session_id, c.model, c.provider, c.era, c.unpriced, c.tier,
               count(*) as interactions, count(c.cost_usd) as priced, sum(c.cost_usd) as cost_usd,
               sum(c.input_tokens) as input_tokens, sum(c.output_tokens) as output_tokens,
               sum(c.cached_input_tokens) as cached_input_tokens, sum(c.cache_write_tokens) as cache_write_tokens,
               sum(c.reasoning_tokens) as reasoning_tokens, sum(c.input) as input, sum(c.output) as output
          from (select c.*, width_bucket(c.input, tiers) as tier from counted as c) as c
         group by c.session_id, c.model, c.provider, c.era, c.unpriced, c.tier
    ), owners as materialized (
        -- one lookup by primary key each; a session that is being erased is a tombstone already
        select o.*
          from (select distinct b.session_id from by_session as b) as b
         cross join lateral (
               select s.id, s.user_id from turnlog.ai_sessions as s
                where s.project = in_project and s.id = b.session_id and s.erased_at is null
               offset 0) as o
    ), by_size as materialized (
        select o.user_id, b.model, b.provider, b.era, b.unpriced, b.tier, sum(b.interactions) as interactions,
               sum(b.priced) as priced, sum(b.cost_usd) as cost_usd,
               coalesce(sum(b.input_tokens), 0) as input_tokens, coalesce(sum(b.output_tokens), 0) as output_tokens,
               coalesce(sum(b.cached_input_tokens), 0) as cached_input_tokens,
               coalesce(sum(b.cache_write_tokens), 0) as cache_write_tokens,
               coalesce(sum(b.reasoning_tokens), 0) as reasoning_tokens, sum(b.input) as input, sum(b.output) as output
          from by_session as b
          join owners as o on o.id = b.session_id
         group by o.user_id, b.model, b.provider, b.era, b.unpriced, b.tier
    ), by_user as materialized (
        select s.user_id, sum(s.input_tokens + s.output_tokens) as tokens, sum(s.interactions) as interactions,
               sum(s.priced) as priced, coalesce(sum(s.cost_usd), 0) as cost_usd, sum(s.input_tokens) as input_tokens,
               sum(s.output_tokens) as output_tokens, sum(s.cached_input_tokens) as cached_input_tokens,
               sum(s.cache_write_tokens) as cache_write_tokens, sum(s.reasoning_tokens) as reasoning_tokens
          from by_size as s
         group by s.user_id
    ), page as materialized (
        select u.* from by_user as u
         where u.user_id is not null
           and (after_user is null
                or u.tokens < after_tokens or u.tokens = after_tokens and u.user_id collate "C" > after_user collate "C")
         order by u.tokens desc, u.user_id collate "C"
         limit page_size + 1
    ), sessions as (
        select o.user_id, count(*) as sessions from owners as o where o.user_id in (select p.user_id from page as p) group by o.user_id
    ), sizes as (
        select s.user_id, jsonb_agg(jsonb_build_object(
                   'model', s.model, 'provider', s.provider, 'era', s.era, 'interactions', s.interactions,
                   'input_tokens', s.input, 'output_tokens', s.output, 'cached_input_tokens', s.cached_input_tokens,
                   'cache_write_tokens', s.cache_write_tokens, 'reasoning_tokens', s.reasoning_tokens)) as sizes
          from by_size as s
         where s.unpriced and s.user_id in (select p.user_id from page as p)
         group by s.user_id
    )
    select jsonb_build_object(
        'share', share,
        'user_count', (select count(*) from by_user as u where u.user_id is not null),
        'total', (
            select jsonb_build_object(
                       'interactions', coalesce(sum(u.interactions), 0), 'priced', coalesce(sum(u.priced), 0),
                       'cost_usd', coalesce(sum(u.cost_usd), 0), 'input_tokens', coalesce(sum(u.input_tokens), 0),
                       'output_tokens', coalesce(sum(u.output_tokens), 0),
                       'cached_input_tokens', coalesce(sum(u.cached_input_tokens), 0),
                       'cache_write_tokens', coalesce(sum(u.cache_write_tokens), 0),
                       'reasoning_tokens', coalesce(sum(u.reasoning_tokens), 0),
                       'sizes', (
                           select coalesce(jsonb_agg(to_jsonb(s)), '[]')
                             from (select s.model, s.provider, s.era, sum(s.interactions) as interactions,
                                          sum(s.input) as input_tokens, sum(s.output) as output_tokens,
                                          sum(s.cached_input_tokens) as cached_input_tokens,
                                          sum(s.cache_write_tokens) as cache_write_tokens,
                                          sum(s.reasoning_tokens) as reasoning_tokens
                                     from by_size as s where s.unpriced
                                    group by s.model, s.provider, s.era, s.tier) as s))
              from by_user as u),
        'users', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'user_id', p.user_id, 'sessions', n.sessions, 'interactions', p.interactions,
                       'priced', p.priced, 'cost_usd', p.cost_usd, 'input_tokens', p.input_tokens,
                       'output_tokens', p.output_tokens, 'cached_input_tokens', p.cached_input_tokens,
                       'cache_write_tokens', p.cache_write_tokens, 'reasoning_tokens', p.reasoning_tokens,
                       'sizes', coalesce(z.sizes, '[]'))
                       order by p.tokens desc, p.user_id collate "C"), '[]')
              from (select p.* from page as p order by p.tokens desc, p.user_id collate "C" limit page_size) as p
              join sessions as n on n.user_id = p.user_id
              left join sizes as z on z.user_id = p.user_id),
        'after', (
            select jsonb_build_object('tokens', p.tokens, 'user_id', p.user_id)
              from page as p
             where (select count(*) from page) > page_size
             order by p.tokens desc, p.user_id collate "C" offset page_size - 1 limit 1))
      into found;
    return found;
end
$$;
