-- Lists revisions of a session's interactions: what was said of each and isn't shown, newest first within an interaction.
-- Takes {project, session_id, limit, interaction_ids?, after?: {interaction_id, at, arrived, revision_id}, whole?: true,
-- bytes?}. Returns
-- {session: or null, interactions: those of `interaction_ids` that there are, revisions, after}.
-- A revision is {revision_id, interaction_id, status, fields, facts, said_at, created_at}: `facts` holds the fields that
-- differ from what is shown, `fields` names them, a key of the metadata as 'metadata.KEY'. With `whole` the `facts` are all
-- that is kept, for an export. Without `interaction_ids` those of all interactions are listed, by id.
-- A page with large facts, such as photos, is shorter than `limit`; so is one with a revision that is shown by now.
create or replace function turnlog.revisions(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of one session, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant integer := request ->> 'limit';
    whole constant boolean := coalesce((request ->> 'whole')::boolean, false);
    ids constant uuid[] := case when request ? 'interaction_ids' then
        array(select jsonb_array_elements_text(request -> 'interaction_ids')::uuid) end;
    after_interaction constant uuid := request #>> '{after,interaction_id}';
    after_at constant timestamptz := request #>> '{after,at}';
    after_arrival constant timestamptz := request #>> '{after,arrived}';
    after_id constant uuid := request #>> '{after,revision_id}';
    -- as stored, before the last one of a page: readers hold it in memory
    most_bytes constant bigint := coalesce((request ->> 'bytes')::bigint, 32000000);
begin
    return (
        with page as materialized (
            select r.interaction_id, r.id, r.said_at, r.created_at, r.facts,
                   row_number() over (order by r.interaction_id, r.said_at desc, r.created_at desc, r.id desc) as n
              from turnlog.ai_revisions as r
             where r.project = in_project and r.session_id = of_session
               and (ids is null or r.interaction_id = any (ids))
               and (after_id is null or r.interaction_id > after_interaction
                    or r.interaction_id = after_interaction and (r.said_at, r.created_at, r.id) < (after_at, after_arrival, after_id))
             order by r.interaction_id, r.said_at desc, r.created_at desc, r.id desc
             limit page_size + 1 -- one more, to know whether another page follows
        ), sized as (
            select p.*, coalesce(sum(pg_column_size(p.facts)) over (
                       order by p.n rows between unbounded preceding and 1 preceding), 0) as bytes_before
              from page as p
        ), shown as (
            select s.*, case when not whole then (
                       select a.facts || turnlog.statement(a.facts)
                         from turnlog.ai_interactions as i
                        cross join lateral (select turnlog.as_sent(to_jsonb(i), '{}', '{}', true) as facts) as a
                        where i.project = in_project and i.session_id = of_session and i.id = s.interaction_id) end as instead
              from sized as s
             where s.n <= page_size and s.bytes_before <= most_bytes
        ), differing as (
            select s.n, f.key, f.value
              from shown as s
             cross join lateral jsonb_each(s.facts - 'status') as f
             where f.value is distinct from s.instead -> f.key
        ), listed as (
            select s.n, s.interaction_id, s.id, s.said_at, s.created_at, s.facts ->> 'status' as status,
                   (select jsonb_agg(d.key order by d.key) from differing as d where d.n = s.n) as fields,
                   (select jsonb_object_agg(d.key, d.value)
                      from (select case when d.key like 'metadata.%' then 'metadata' else d.key end as key,
                                   case when d.key like 'metadata.%'
                                        then jsonb_object_agg(substr(d.key, 10), d.value) over (
                                             partition by d.key like 'metadata.%')
                                        else d.value end as value
                              from differing as d where d.n = s.n) as d) as facts
              from shown as s
        )
        select jsonb_build_object(
            'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                          from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session),
            'interactions', (select coalesce(jsonb_agg(jsonb_build_object('interaction_id', i.id, 'key', i.key)), '[]')
                               from turnlog.ai_interactions as i
                              where i.project = in_project and i.session_id = of_session and i.id = any (ids)),
            'revisions', (select coalesce(jsonb_agg(jsonb_build_object(
                              'revision_id', l.id, 'interaction_id', l.interaction_id, 'status', l.status,
                              'fields', l.fields, 'facts', l.facts, 'said_at', l.said_at, 'created_at', l.created_at)
                              order by l.n), '[]')
                            from listed as l where l.fields is not null),
            'after', (select jsonb_build_object('interaction_id', p.interaction_id, 'at', p.said_at, 'arrived', p.created_at,
                                                'revision_id', p.id)
                        from page as p
                       where p.n = (select max(s.n) from shown as s)
                         and exists (select from page as next where next.n > p.n))));
end
$$;
