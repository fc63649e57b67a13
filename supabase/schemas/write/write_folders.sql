-- Writes the folders of a batch in the order of their ids, and locks them and the folders of its sessions. Returns
-- {receipts: [...], sessions: [...]}: the numbered sessions of accepted plans, each with `folder_position`, the
-- position of its folder in the batch.
create or replace function turnlog.write_folders(in_project text, rows jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    folders constant jsonb := coalesce(rows -> 'folders', '[]');
    inserted_ids uuid[];
    incoming record;
    stored turnlog.ai_session_folders;
    rule record;
    receipt jsonb;
    receipts jsonb := '[]';
    planned jsonb := '[]';
    changed uuid[] := '{}';  -- folders that were filled
begin
    -- insert the missing ones in the order of their ids, then lock all in that order, as with sessions
    with incoming as (
        select distinct on (f.id) f.*
          from rows from (jsonb_to_recordset(folders) as (
                   id uuid, key text, name text, user_id text, sessions_per_week integer, total_weeks integer,
                   starts_on date, metadata jsonb, implicit boolean, created_at timestamptz)) with ordinality as f
         order by f.id, coalesce(f.implicit, false), f.key is null, f.ordinality
    ), inserted as (
        insert into turnlog.ai_session_folders
               (project, id, key, name, user_id, sessions_per_week, total_weeks, starts_on, metadata, implicit, created_at)
        select in_project, s.id, s.key, s.name, s.user_id, s.sessions_per_week, s.total_weeks, s.starts_on, s.metadata,
               coalesce(s.implicit, false), coalesce(s.created_at, statement_timestamp())
          from incoming as s
         order by s.id
            on conflict do nothing
        returning id
    )
    select coalesce(array_agg(i.id), '{}') into inserted_ids from inserted as i;

    perform from (
        select f.id
          from turnlog.ai_session_folders as f
         where f.project = in_project
           and f.id = any (array(
               select f.id from jsonb_to_recordset(folders) as f (id uuid)
               union
               select s.folder_id from jsonb_to_recordset(rows -> 'sessions') as s (folder_id uuid)))
         order by f.id
           for no key update) as locked;

    for incoming in
        select f.value as facts, (f.value ->> 'id')::uuid as id, coalesce((f.value ->> 'implicit')::boolean, false) as implicit,
               row_number() over (partition by f.value ->> 'id' order by coalesce((f.value ->> 'implicit')::boolean, false),
                                  f.value ->> 'key' is null, f.ordinality) as nth,
               f.ordinality
          from jsonb_array_elements(folders) with ordinality as f
         order by nth, f.ordinality
    loop
        select f.* into stored from turnlog.ai_session_folders as f where f.project = in_project and f.id = incoming.id;
        if stored.id is null then
            receipt := (
                select jsonb_build_object(
                           'receipt', 'conflict', 'constraint', 'ai_session_folders_project_key_key',
                           'columns', array['project', 'key'],
                           'attempted', jsonb_build_object('project', in_project, 'key', incoming.facts ->> 'key'),
                           'held_by', f.id)
                  from turnlog.ai_session_folders as f
                 where f.project = in_project and f.key = incoming.facts ->> 'key');
        elsif incoming.nth = 1 and incoming.id = any (inserted_ids) then
            receipt := '{"receipt": "created"}';
        else
            select r.fills, r.conflicts into rule
              from turnlog.fill_rule(
                   to_jsonb(stored), incoming.facts - '{id,implicit,created_at,sessions}'::text[]) as r;
            -- a plan may get longer; its sessions stay as they are
            if (incoming.facts ->> 'total_weeks')::integer > stored.total_weeks then
                rule.conflicts := nullif(array_remove(rule.conflicts, 'total_weeks'), '{}');
                rule.fills := coalesce(rule.fills, '{}') || jsonb_build_object('total_weeks', incoming.facts -> 'total_weeks');
            end if;
            if rule.conflicts is not null then
                receipt := jsonb_build_object('receipt', 'conflict', 'fields', array(
                    select case when c.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || c.field else c.field end from unnest(rule.conflicts) as c (field)));
                if rule.conflicts && '{sessions_per_week,total_weeks}' then
                    receipt := receipt || jsonb_build_object('reason', format(
                        'The plan has %s weeks of %s sessions; it may get longer, not shorter or denser',
                        stored.total_weeks, stored.sessions_per_week));
                end if;
            elsif rule.fills is not null or stored.implicit and not incoming.implicit then
                update turnlog.ai_session_folders as f
                   set (key, name, user_id, sessions_per_week, total_weeks, starts_on, metadata, implicit) = (
                       select m.key, m.name, m.user_id, m.sessions_per_week, m.total_weeks, m.starts_on, m.metadata,
                              stored.implicit and incoming.implicit
                         from jsonb_populate_record(stored, coalesce(rule.fills, '{}')) as m)
                 where f.project = in_project and f.id = incoming.id;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', array(
                    select case when k.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || k.field else k.field end
                      from jsonb_object_keys(rule.fills) as k (field) order by 1));
            else
                receipt := '{"receipt": "duplicate"}';
            end if;
        end if;
        receipts := receipts || jsonb_build_object('at', incoming.ordinality, 'receipt', receipt);
        if receipt ->> 'receipt' <> 'conflict' then
            planned := planned || (
                select coalesce(jsonb_agg(p.value || jsonb_build_object('folder_position', incoming.ordinality)), '[]')
                  from jsonb_array_elements(coalesce(incoming.facts -> 'sessions', '[]')) as p);
        end if;
        if receipt ->> 'receipt' = 'filled' then
            changed := changed || incoming.id;
        end if;
    end loop;

    -- A folder's user and start may arrive later than its plan, so planned sessions that exist already are filled, too.
    planned := planned || (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'id', s.id, 'implicit', true, 'folder_id', s.folder_id, 'plan_index', s.session_number - 1)), '[]')
          from turnlog.ai_session_folders as f
          join turnlog.ai_sessions as s on s.project = in_project and s.folder_id = f.id and s.erased_at is null
                                      and s.session_number <= f.sessions_per_week * f.total_weeks
         where f.project = in_project and f.id = any (changed)
           and (s.user_id is null and f.user_id is not null or s.scheduled_on is null and f.starts_on is not null));
    return jsonb_build_object(
        'receipts', (select coalesce(jsonb_agg(r -> 'receipt' order by (r ->> 'at')::bigint), '[]')
                       from jsonb_array_elements(receipts) as r),
        'sessions', (
            select coalesce(jsonb_agg(
                       p.value || jsonb_build_object(
                           'user_id', f.user_id,
                           'scheduled_on', f.starts_on + n.plan_index / f.sessions_per_week * 7
                                           + n.plan_index % f.sessions_per_week * 7 / f.sessions_per_week)
                       order by p.ordinality), '[]')
              from jsonb_array_elements(planned) with ordinality as p
             cross join lateral (select coalesce((p.value ->> 'plan_index')::integer,
                                                 (p.value ->> 'session_number')::integer - 1) as plan_index) as n
              join turnlog.ai_session_folders as f
                on f.project = in_project and f.id = (p.value ->> 'folder_id')::uuid));
end
$$;
