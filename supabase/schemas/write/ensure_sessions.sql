-- Inserts the sessions of a batch that don't exist and locks the others, in the order of their ids, so that neither an
-- erasure nor another write can interleave.
-- Returns `created`: ids that this batch inserted; `present`: ids that existed; `rejected`: id -> why it takes no
-- records ('erased', or it met another row's natural key); `needs_no_fill`: the batch says nothing further about its
-- sessions.
create or replace function turnlog.ensure_sessions(
    in_project text, rows jsonb,
    out created uuid[], out present uuid[], out rejected jsonb, out needs_no_fill boolean)
language plpgsql volatile
set search_path = ''
as $$
declare
    named uuid[];
    existing uuid[];
    has_explicit boolean;   -- a session has an explicit row, or one with a folder
    has_key boolean;        -- a row has a key
    each_once boolean;      -- each session has at most one row
    lacks_key boolean := false; -- a stored session has no key yet
    defaults constant turnlog.ai_sessions := jsonb_populate_record(null::turnlog.ai_sessions, jsonb_build_object(
        'project', in_project, 'status', 'open', 'implicit', false, 'created_at', statement_timestamp()));
begin
    select array_agg(distinct n.id), bool_or(n.has_explicit), bool_or(n.has_key),
           count(distinct n.id) filter (where n.has_key is not null) = count(n.has_key)
      into named, has_explicit, has_key, each_once
      from (select s.id, s.implicit is not true or s.folder_id is not null as has_explicit, s.key is not null as has_key
              from jsonb_to_recordset(rows -> 'sessions') as s (id uuid, implicit boolean, folder_id uuid, key text)
            union all
            select i.session_id, null, null from jsonb_to_recordset(rows -> 'interactions') as i (session_id uuid)
            union all
            select p.session_id, null, null from jsonb_to_recordset(rows -> 'participants') as p (session_id uuid)
            union all
            select f.session_id, null, null from jsonb_to_recordset(rows -> 'feedback') as f (session_id uuid)) as n;

    -- Usually all exist, so look them up first. Missing ones must be inserted before any is locked, or two batches could
    -- deadlock. Those found here can still be locked below: only turnlog.leave_session deletes some.
    existing := array(select s.id from turnlog.ai_sessions as s where s.project = in_project and s.id = any (named));
    created := '{}';
    present := '{}';
    rejected := '{}';
    if cardinality(existing) < cardinality(named) then
        with inserted as (
            insert into turnlog.ai_sessions
            select r.*
              from turnlog.missing_sessions(rows, existing) as m (facts)
             cross join lateral jsonb_populate_record(defaults, m.facts) as r
             order by r.id
                on conflict do nothing
            returning id, key
        )
        select coalesce(array_agg(i.id), '{}'), coalesce(bool_or(i.key is null), false)
          into created, lacks_key
          from inserted as i;
    end if;

    -- rows that this batch inserted need no lock: nobody else sees them
    if cardinality(created) < cardinality(named) then
        select coalesce(array_agg(s.id), '{}'), lacks_key or coalesce(bool_or(s.key is null), false),
               coalesce(jsonb_object_agg(s.id, 'erased') filter (where s.erased_at is not null), '{}')
          into present, lacks_key, rejected
          from (select s.id, s.key, s.erased_at
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (named) and s.id <> all (created)
                 order by s.id
                   for no key update) as s;
        if not existing <@ present then
            raise exception using errcode = '55P03', message = 'calls of a trace left one of the sessions meanwhile: retry';
        elsif cardinality(created) + cardinality(present) < cardinality(named) then
            rejected := rejected || (
                select jsonb_object_agg(n.id, 'the session was rejected')
                  from unnest(named) as n (id)
                 where n.id <> all (created || present));
        end if;
    end if;
    needs_no_fill := rejected = '{}' and (
        coalesce(not has_explicit and not (has_key and lacks_key), true)
        or each_once and present = '{}' and coalesce(rows -> 'numbers_taken' = '[]', true));
end
$$;
