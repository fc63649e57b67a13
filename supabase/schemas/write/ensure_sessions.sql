-- Makes sure of every session that a batch names, and locks those that were there, in the order of their ids: no erase
-- and no other write slips under this one. `created`: those that this batch inserted, `present`: those that were there,
-- `refused`: session -> why it takes no records: it is erased, or it met another row's natural key. `plain`: all that the
-- batch says of its sessions is written with that.
create or replace function turnlog.ensure_sessions(
    in_project text, rows jsonb,
    out created uuid[], out present uuid[], out refused jsonb, out plain boolean)
language plpgsql volatile
set search_path = ''
as $$
declare
    named uuid[];
    known uuid[];
    states boolean;   -- some session is stated for itself, not only brought along by a child
    keyed boolean;    -- some session is said to have a key
    said_once boolean;
    keyless boolean := false; -- some session doesn't know its key
    fresh constant turnlog.ai_sessions := jsonb_populate_record(null::turnlog.ai_sessions, jsonb_build_object(
        'project', in_project, 'status', 'open', 'implicit', false, 'created_at', statement_timestamp()));
begin
    select array_agg(distinct n.id), bool_or(n.states), bool_or(n.keyed),
           count(distinct n.id) filter (where n.keyed is not null) = count(n.keyed)
      into named, states, keyed, said_once
      from (select s.id, s.implicit is not true or s.folder_id is not null as states, s.key is not null as keyed
              from jsonb_to_recordset(rows -> 'sessions') as s (id uuid, implicit boolean, folder_id uuid, key text)
            union all
            select i.session_id, null, null from jsonb_to_recordset(rows -> 'interactions') as i (session_id uuid)
            union all
            select p.session_id, null, null from jsonb_to_recordset(rows -> 'participants') as p (session_id uuid)
            union all
            select f.session_id, null, null from jsonb_to_recordset(rows -> 'feedback') as f (session_id uuid)) as n;

    -- Mostly all are there, so a look comes first. Missing ones must be inserted before any is locked, or one batch could
    -- hold what another waits for. Rows never go away, so what the look has seen is still there to be locked.
    known := array(select s.id from turnlog.ai_sessions as s where s.project = in_project and s.id = any (named));
    created := '{}';
    present := '{}';
    refused := '{}';
    if cardinality(known) < cardinality(named) then
        with inserted as (
            insert into turnlog.ai_sessions
            select r.*
              from turnlog.missing_sessions(rows, known) as m (facts)
             cross join lateral jsonb_populate_record(fresh, m.facts) as r
             order by r.id
                on conflict do nothing
            returning id, key
        )
        select coalesce(array_agg(i.id), '{}'), coalesce(bool_or(i.key is null), false)
          into created, keyless
          from inserted as i;
    end if;

    -- what this batch inserted nobody else sees
    if cardinality(created) < cardinality(named) then
        select coalesce(array_agg(s.id), '{}'), keyless or coalesce(bool_or(s.key is null), false),
               coalesce(jsonb_object_agg(s.id, 'erased') filter (where s.erased_at is not null), '{}')
          into present, keyless, refused
          from (select s.id, s.key, s.erased_at
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = any (named) and s.id <> all (created)
                 order by s.id
                   for no key update) as s;
        if cardinality(created) + cardinality(present) < cardinality(named) then
            refused := refused || (
                select jsonb_object_agg(n.id, 'the session was refused')
                  from unnest(named) as n (id)
                 where n.id <> all (created || present));
        end if;
    end if;
    plain := refused = '{}' and (
        coalesce(not states and not (keyed and keyless), true)
        or said_once and present = '{}' and coalesce(rows -> 'unplaced' = '[]', true));
end
$$;
