-- Folders of numbered sessions, participants, keys of several columns; and what a batch would do.

create table if not exists public.ai_session_folders (
    project           text        not null,
    id                uuid        not null,
    key               text,                             -- the caller's own id; the id derives from it
    name              text,
    user_id           text,
    sessions_per_week integer,                          -- the plan: so many numbered sessions,
    total_weeks       integer,                          --   for so long,
    starts_on         date,                             --   dated from here on if it is known
    metadata          jsonb,
    implicit          boolean     not null default false, -- born from a session, not yet created by name
    created_at        timestamptz not null,
    constraint ai_session_folders_pkey primary key (project, id),
    constraint ai_session_folders_project_check check (project <> ''),
    constraint ai_session_folders_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_session_folders_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 200),
    constraint ai_session_folders_plan_check check (
        (sessions_per_week is null) = (total_weeks is null) and sessions_per_week > 0 and total_weeks > 0
        and (starts_on is null or total_weeks is not null)),
    constraint ai_session_folders_metadata_check check (jsonb_typeof(metadata) = 'object')
);

create unique index if not exists ai_session_folders_project_key_key
    on public.ai_session_folders (project, key) where key is not null;
create index if not exists ai_session_folders_user_idx
    on public.ai_session_folders (project, user_id, id) where user_id is not null;

create table if not exists public.ai_session_participants (
    project     text        not null,
    session_id  uuid        not null,
    participant text        not null,
    role        text,
    state       text,                                   -- null: nobody has said, as of one whom an interaction names
    created_at  timestamptz not null,
    constraint ai_session_participants_pkey primary key (project, session_id, participant),
    constraint ai_session_participants_session_fkey foreign key (project, session_id)
        references public.ai_sessions (project, id),
    constraint ai_session_participants_participant_check check (participant !~ '^\s*$' and length(participant) <= 200),
    constraint ai_session_participants_state_check check (state in ('reserved', 'confirmed', 'joined', 'left'))
);

-- Until now only people changed a status, by PATCH: it is theirs.
do $$
begin
    if not exists (select from information_schema.columns
                    where table_schema = 'public' and table_name = 'ai_sessions' and column_name = 'folder_id') then
        update public.ai_sessions set edited = edited || '{status}' where status <> 'open';
    end if;
end
$$;

alter table public.ai_sessions
    add column if not exists folder_id uuid,
    add column if not exists session_number integer,    -- within its folder
    add column if not exists scheduled_on date;

-- Placeholders of a missing id are refused here as well, for who writes past the service. Rows that somebody wrote so
-- before stay: then a check holds for new ones only, and `flask doctor` tells which rows those are.
do $$
declare
    wanted record;
begin
    for wanted in
        select *
          from (values
              ('ai_sessions', 'folder_fkey',
               'foreign key (project, folder_id) references public.ai_session_folders (project, id)'),
              ('ai_sessions', 'session_number_check',
               'check (session_number is null or session_number > 0 and folder_id is not null)'),
              ('ai_sessions', 'id_check', $check$check (id <> '00000000-0000-0000-0000-000000000000')$check$),
              ('ai_sessions', 'key_check',
               $check$check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 200)$check$),
              ('ai_interactions', 'id_check', $check$check (id <> '00000000-0000-0000-0000-000000000000')$check$),
              ('ai_interactions', 'key_check',
               $check$check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 2500)$check$)
          ) as w (relation, name, definition)
         where not exists (
               select from pg_catalog.pg_constraint as c
                where c.conrelid = ('public.' || w.relation)::regclass and c.conname = w.relation || '_' || w.name
                  and (w.name <> 'key_check' or pg_get_constraintdef(c.oid) like '%undefined%'))
    loop
        execute format('alter table public.%1$I drop constraint if exists %2$I, add constraint %2$I %3$s not valid',
                       wanted.relation, wanted.relation || '_' || wanted.name, wanted.definition);
        begin
            execute format('alter table public.%I validate constraint %I',
                           wanted.relation, wanted.relation || '_' || wanted.name);
        exception when check_violation then
            raise notice '% has rows whose % is a placeholder: flask doctor names them', wanted.relation, wanted.name;
        end;
    end loop;

    -- A key of several parts may be longer than an index entry. It needs none: the id derives from it.
    if not exists (select from pg_catalog.pg_indexes
                    where schemaname = 'public' and indexname = 'ai_interactions_session_key_key'
                      and indexdef like '%octet_length%') then
        drop index if exists public.ai_interactions_session_key_key;
        create unique index ai_interactions_session_key_key
            on public.ai_interactions (project, session_id, key) where octet_length(key) <= 2000;
    end if;
end
$$;

create unique index if not exists ai_sessions_folder_number_key
    on public.ai_sessions (project, folder_id, session_number) where folder_id is not null;

insert into public.ai_session_participants (project, session_id, participant, created_at)
select i.project, i.session_id, i.participant, min(i.created_at)
  from public.ai_interactions as i
 where i.participant !~ '^\s*$' and length(i.participant) <= 200
 group by i.project, i.session_id, i.participant
    on conflict do nothing;


create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121000400',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
$$;


-- The fill rule, for one record: which of the stated facts fill an empty field of the stored record, and
-- which contradict it. Tags and metadata gain entries: a new tag or a new metadata key fills; a metadata key
-- that holds another value contradicts, and is named 'metadata.KEY'.
create or replace function public.turnlog_fill_rule_v1(stored jsonb, stated jsonb, out fills jsonb, out conflicts text[])
language plpgsql immutable
set search_path = ''
as $$
declare
    field text;
    value jsonb;
    held jsonb;
    gained jsonb;
begin
    for field, value in select s.key, s.value from jsonb_each(stated) as s where s.value not in ('null', '[]', '{}') loop
        held := nullif(stored -> field, 'null');
        if held = value then
            continue;
        elsif held is null then
            gained := value;
        elsif field = 'tags' then
            gained := held || coalesce(
                (select jsonb_agg(t.tag order by t.n)
                   from jsonb_array_elements(value) with ordinality as t (tag, n) where not held @> t.tag), '[]');
        elsif field = 'metadata' then
            gained := value || held;
            conflicts := conflicts || array(
                select 'metadata.' || m.key from jsonb_each(value) as m where held -> m.key <> m.value order by m.key);
        else
            gained := held;
            conflicts := conflicts || field;
        end if;
        if gained is distinct from held then
            fills := coalesce(fills, '{}') || jsonb_build_object(field, gained);
        end if;
    end loop;
    conflicts := nullif(conflicts, '{}');
end
$$;


-- Sessions as callers see them, in the order of their ids' list. Counts are derived here, never stored.
create or replace function public.turnlog_session_rows_v1(of_project text, ids uuid[]) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(
        jsonb_build_object(
            'session_id', s.id, 'key', s.key, 'user_id', s.user_id, 'title', s.title,
            'folder_id', s.folder_id, 'session_number', s.session_number, 'scheduled_on', s.scheduled_on,
            'status', s.status, 'implicit', s.implicit,
            'tags', coalesce(to_jsonb(s.tags), '[]'), 'metadata', coalesce(s.metadata, '{}'),
            'started_at', s.started_at, 'ended_at', s.ended_at,
            'created_at', s.created_at, 'erased_at', s.erased_at,
            'interaction_count', coalesce(i.interaction_count, 0), 'last_activity_at', i.last_activity_at
        ) order by wanted.n), '[]')
    from unnest(ids) with ordinality as wanted (id, n)
    join public.ai_sessions as s on s.project = of_project and s.id = wanted.id
    left join (
        select c.session_id, count(*) as interaction_count,
               max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
          from public.ai_interactions as c
         where c.project = of_project and c.session_id = any (ids)
         group by c.session_id
    ) as i on i.session_id = s.id
$$;


-- Folders as callers see them, in the order of their ids' list; what is said of their sessions is derived here.
-- `opened` are the sessions that aren't locked any more, or that somebody logged under; `closed` are among them.
create or replace function public.turnlog_folder_rows_v1(of_project text, ids uuid[]) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some folders, never a whole table, whatever its statistics say
as $$
    with used as (
        select s.folder_id, s.id, s.status, i.interactions, i.last_activity_at
          from public.ai_sessions as s
          -- each by itself: a join was planned as all of them for each
         cross join lateral (
                select count(*) as interactions,
                       max(coalesce(c.completed_at, c.started_at, c.created_at)) as last_activity_at
                  from public.ai_interactions as c
                 where c.project = of_project and c.session_id = s.id
                offset 0) as i
         where s.project = of_project and s.folder_id = any (ids) and s.erased_at is null
    ), summed as (
        select u.folder_id, count(*) as sessions,
               count(*) filter (where u.status <> 'locked' or u.interactions > 0) as opened,
               count(*) filter (where u.status = 'closed') as closed,
               coalesce(sum(u.interactions), 0) as interactions, max(u.last_activity_at) as last_activity_at
          from used as u
         group by u.folder_id
    )
    select coalesce(jsonb_agg(
        jsonb_build_object(
            'folder_id', f.id, 'key', f.key, 'name', f.name, 'user_id', f.user_id,
            'plan', case when f.total_weeks is not null then jsonb_build_object(
                'sessions_per_week', f.sessions_per_week, 'total_weeks', f.total_weeks, 'starts_on', f.starts_on) end,
            'metadata', coalesce(f.metadata, '{}'), 'implicit', f.implicit, 'created_at', f.created_at,
            'statistics', jsonb_build_object(
                'planned', coalesce(f.sessions_per_week * f.total_weeks, 0), 'sessions', coalesce(m.sessions, 0),
                'opened', coalesce(m.opened, 0), 'closed', coalesce(m.closed, 0),
                'interactions', coalesce(m.interactions, 0), 'last_activity_at', m.last_activity_at)
        ) order by wanted.n), '[]')
    from unnest(ids) with ordinality as wanted (id, n)
    join public.ai_session_folders as f on f.project = of_project and f.id = wanted.id
    left join summed as m on m.folder_id = f.id
$$;


-- The receipt of a session whose number or key belongs to a session with another id.
create or replace function public.turnlog_session_clash_v1(in_project text, stated public.ai_sessions) returns jsonb
language sql stable
set search_path = ''
as $$
    select coalesce(
        (select jsonb_build_object(
                    'receipt', 'conflict', 'constraint', 'ai_sessions_folder_number_key',
                    'columns', array['project', 'folder_id', 'session_number'],
                    'attempted', jsonb_build_object('project', in_project, 'folder_id', stated.folder_id,
                                                    'session_number', stated.session_number::text),
                    'held_by', s.id)
           from public.ai_sessions as s
          where s.project = in_project and s.folder_id = stated.folder_id
            and s.session_number = stated.session_number and s.id <> stated.id),
        public.turnlog_key_clash_v1(in_project, stated.key, stated.id))
$$;


-- Writes a batch's folders, in the transaction of the batch, and locks them: {folders: [...]} as in turnlog_write_v1,
-- and the ids of other folders that its sessions are in. Answers {receipts: [...], sessions: [...]}: the numbered
-- sessions of the plans that were accepted, each with `of_folder`, the place of its folder in the list.
create or replace function public.turnlog_write_folders_v1(in_project text, folders jsonb, named uuid[]) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    born uuid[];
    stated record;
    held public.ai_session_folders;
    rule record;
    receipt jsonb;
    receipts jsonb := '[]';
    planned jsonb := '[]';
    changed uuid[] := '{}';  -- folders of which something was filled
begin
    -- the missing ones first, in the order of their ids; then all are locked in that order, as sessions are
    with stated as (
        select distinct on (f.id) f.*
          from rows from (jsonb_to_recordset(folders) as (
                   id uuid, key text, name text, user_id text, sessions_per_week integer, total_weeks integer,
                   starts_on date, metadata jsonb, implicit boolean, created_at timestamptz)) with ordinality as f
         order by f.id, coalesce(f.implicit, false), f.key is null, f.ordinality
    ), inserted as (
        insert into public.ai_session_folders
               (project, id, key, name, user_id, sessions_per_week, total_weeks, starts_on, metadata, implicit, created_at)
        select in_project, s.id, s.key, s.name, s.user_id, s.sessions_per_week, s.total_weeks, s.starts_on, s.metadata,
               coalesce(s.implicit, false), coalesce(s.created_at, statement_timestamp())
          from stated as s
         order by s.id
            on conflict do nothing
        returning id
    )
    select coalesce(array_agg(i.id), '{}') into born from inserted as i;

    perform from (
        select f.id
          from public.ai_session_folders as f
         where f.project = in_project
           and f.id = any (named || array(select (e ->> 'id')::uuid from jsonb_array_elements(folders) as e))
         order by f.id
           for no key update) as locked;

    for stated in
        select f.value as facts, (f.value ->> 'id')::uuid as id, coalesce((f.value ->> 'implicit')::boolean, false) as implicit,
               row_number() over (partition by f.value ->> 'id' order by coalesce((f.value ->> 'implicit')::boolean, false),
                                  f.value ->> 'key' is null, f.ordinality) as nth,
               f.ordinality
          from jsonb_array_elements(folders) with ordinality as f
         order by nth, f.ordinality
    loop
        select f.* into held from public.ai_session_folders as f where f.project = in_project and f.id = stated.id;
        if held.id is null then
            receipt := (
                select jsonb_build_object(
                           'receipt', 'conflict', 'constraint', 'ai_session_folders_project_key_key',
                           'columns', array['project', 'key'],
                           'attempted', jsonb_build_object('project', in_project, 'key', stated.facts ->> 'key'),
                           'held_by', f.id)
                  from public.ai_session_folders as f
                 where f.project = in_project and f.key = stated.facts ->> 'key');
        elsif stated.nth = 1 and stated.id = any (born) then
            receipt := '{"receipt": "created"}';
        else
            select r.fills, r.conflicts into rule
              from public.turnlog_fill_rule_v1(
                   to_jsonb(held), stated.facts - '{id,implicit,created_at,sessions}'::text[]) as r;
            -- a plan may grow: what it had stays as it was
            if (stated.facts ->> 'total_weeks')::integer > held.total_weeks then
                rule.conflicts := nullif(array_remove(rule.conflicts, 'total_weeks'), '{}');
                rule.fills := coalesce(rule.fills, '{}') || jsonb_build_object('total_weeks', stated.facts -> 'total_weeks');
            end if;
            if rule.conflicts is not null then
                receipt := jsonb_build_object('receipt', 'conflict', 'fields', array(
                    select case when c.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || c.field else c.field end from unnest(rule.conflicts) as c (field)));
                if rule.conflicts && '{sessions_per_week,total_weeks}' then
                    receipt := receipt || jsonb_build_object('reason', format(
                        'The plan has %s weeks of %s sessions; it may get longer, not shorter or denser',
                        held.total_weeks, held.sessions_per_week));
                end if;
            elsif rule.fills is not null or held.implicit and not stated.implicit then
                update public.ai_session_folders as f
                   set (key, name, user_id, sessions_per_week, total_weeks, starts_on, metadata, implicit) = (
                       select m.key, m.name, m.user_id, m.sessions_per_week, m.total_weeks, m.starts_on, m.metadata,
                              held.implicit and stated.implicit
                         from jsonb_populate_record(held, coalesce(rule.fills, '{}')) as m)
                 where f.project = in_project and f.id = stated.id;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', array(
                    select case when k.field in ('sessions_per_week', 'total_weeks', 'starts_on')
                                then 'plan.' || k.field else k.field end
                      from jsonb_object_keys(rule.fills) as k (field) order by 1));
            else
                receipt := '{"receipt": "duplicate"}';
            end if;
        end if;
        receipts := receipts || jsonb_build_object('at', stated.ordinality, 'receipt', receipt);
        if receipt ->> 'receipt' <> 'conflict' then
            planned := planned || (
                select coalesce(jsonb_agg(p.value || jsonb_build_object('of_folder', stated.ordinality)), '[]')
                  from jsonb_array_elements(coalesce(stated.facts -> 'sessions', '[]')) as p);
        end if;
        if receipt ->> 'receipt' = 'filled' then
            changed := changed || stated.id;
        end if;
    end loop;

    -- What the folders say of their planned sessions, now that all is told: whose they are and when they begin may be
    -- said at another time than how many there are. Those that are there already gain it as well.
    planned := planned || (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'id', s.id, 'implicit', true, 'folder_id', s.folder_id, 'place', s.session_number - 1)), '[]')
          from public.ai_session_folders as f
          join public.ai_sessions as s on s.project = in_project and s.folder_id = f.id and s.erased_at is null
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
                           'scheduled_on', f.starts_on + n.place / f.sessions_per_week * 7
                                           + n.place % f.sessions_per_week * 7 / f.sessions_per_week)
                       order by p.ordinality), '[]')
              from jsonb_array_elements(planned) with ordinality as p
             cross join lateral (select coalesce((p.value ->> 'place')::integer,
                                                 (p.value ->> 'session_number')::integer - 1) as place) as n
              join public.ai_session_folders as f
                on f.project = in_project and f.id = (p.value ->> 'folder_id')::uuid));
end
$$;


-- Writes a batch's participants, below sessions that the batch has locked. Receipts in the order of the list.
create or replace function public.turnlog_write_participants_v1(
    in_project text, participants jsonb, sessions_present uuid[], sessions_erased uuid[])
returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    onward constant text[] := '{reserved,confirmed,joined,left}';
    stated public.ai_session_participants;
    held public.ai_session_participants;
    fields text[];
    receipt jsonb;
    receipts jsonb := '[]';
begin
    for stated in select p.* from jsonb_populate_recordset(null::public.ai_session_participants, participants) as p loop
        if stated.session_id = any (sessions_erased) or stated.session_id <> all (sessions_present) then
            receipts := receipts || jsonb_build_object('receipt', 'rejected', 'reason',
                case when stated.session_id = any (sessions_erased) then 'erased' else 'the session was refused' end);
            continue;
        end if;
        insert into public.ai_session_participants (project, session_id, participant, role, state, created_at)
        values (in_project, stated.session_id, stated.participant, stated.role, stated.state,
                coalesce(stated.created_at, statement_timestamp()))
            on conflict do nothing;
        if found then
            receipts := receipts || '{"receipt": "created"}'::jsonb;
            continue;
        end if;
        select p.* into held
          from public.ai_session_participants as p
         where p.project = in_project and p.session_id = stated.session_id and p.participant = stated.participant;
        fields := array_remove(array[
            case when stated.role <> held.role then 'role' end,
            case when array_position(onward, stated.state) < array_position(onward, held.state) then 'state' end], null);
        if fields <> '{}' then
            receipt := jsonb_build_object('receipt', 'conflict', 'fields', fields);
            if 'state' = any (fields) then
                receipt := receipt || jsonb_build_object('reason', format(
                    'A participant''s state moves only forward (reserved, confirmed, joined, left): it is %s, %s would be a step back',
                    held.state, stated.state));
            end if;
        else
            fields := array_remove(array[
                case when held.role is null and stated.role is not null then 'role' end,
                case when stated.state is distinct from held.state and stated.state is not null then 'state' end], null);
            if fields = '{}' then
                receipt := '{"receipt": "duplicate"}';
            else
                update public.ai_session_participants as p
                   set role = coalesce(held.role, stated.role), state = coalesce(stated.state, held.state)
                 where p.project = in_project and p.session_id = stated.session_id and p.participant = stated.participant;
                receipt := jsonb_build_object('receipt', 'filled', 'fields', fields);
            end if;
        end if;
        receipts := receipts || receipt;
    end loop;
    return receipts;
end
$$;


-- Writes a batch in one transaction: {project, folders, sessions, participants, interactions: [row ...] each, and
-- return_parents?: whether a receipt carries the folder or session as it is afterwards}.
-- Answers {folders, sessions, participants, interactions: [receipt ...] each}, each list in the order of its input.
-- A receipt is {receipt: created | filled | duplicate | conflict | rejected, ...}.
--
-- Beside its columns a folder's row may hold `sessions`, its plan's: they are written unless the plan is refused, and
-- their receipts are in the folder's. A session's row may say `numbering`: `next` gives it the lowest free number of
-- its folder when it has none yet, `named` means whichever session has its number. An interaction's row may say
-- `on_conflict`: `report` changes nothing that is there, `fill` fills what is empty though other facts contradict.
--
-- It can't deadlock: folders are inserted and locked in id order, then missing sessions are inserted in id order, then
-- all of them are locked in id order.
-- Whoever writes or erases below a session holds its lock until it commits, so what is read of the session's
-- interactions afterwards stays true. Separate statements, since each one sees what committed before it.
create or replace function public.turnlog_write_v1(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan' -- planning anew took a third of a call
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s' -- who waits longer for a lock shall know that it is one, not that the store is away
as $$
declare
    in_project constant text := batch ->> 'project';
    stated_sessions constant integer := coalesce(jsonb_array_length(batch -> 'sessions'), 0);
    sessions public.ai_sessions[] := array(
        select r from jsonb_populate_recordset(null::public.ai_sessions, coalesce(batch -> 'sessions', '[]')) as r);
    interactions constant public.ai_interactions[] := array(
        select r from jsonb_populate_recordset(null::public.ai_interactions, coalesce(batch -> 'interactions', '[]')) as r);
    folders jsonb;                -- what became of the folders
    numbered record;
    number integer;
    holder uuid;
    clashing bigint[] := '{}';    -- positions of sessions whose number another one has
    insertable public.ai_sessions[];
    aliases jsonb := '{}';        -- id that derives from a number -> id of the session that has it
    attending jsonb := coalesce(batch -> 'participants', '[]');
    parents uuid[];               -- every session that the batch names, distinct
    ids bigint;                   -- how many different ids the interactions have
    any_created boolean;          -- some session is stated for itself, not only brought along by a child
    any_keyed boolean;
    any_placed boolean;           -- some session is stated to be in a folder
    any_participants boolean;     -- some interaction names its participant
    participants jsonb := '[]';   -- what became of the participants
    parents_born uuid[] := '{}';  -- those that this batch inserted
    parents_present uuid[];       -- those that have a row now
    parents_erased uuid[];
    keys_missing boolean;         -- some parent doesn't know its key yet
    all_open boolean;             -- every parent is present and none is erased
    born_sessions uuid[];         -- session and id of the interactions that this batch inserted
    born_ids uuid[];
    born bigint[];                -- their positions
    occurrence bigint[];    -- by position: the how-manieth record of its id in this batch
    rounds bigint;
    on_conflicts text[];    -- by position: what the interactions' rows say
    weighed jsonb;          -- position -> receipt, of one round
    session_receipts jsonb := '{}';
    interaction_receipts jsonb := '{}';
    -- as workers from before this migration say it, too
    return_parents constant boolean := coalesce(batch ->> 'return_parents', batch ->> 'return_sessions', 'false');
begin
    if in_project is null then
        raise exception using errcode = '23502', column = 'project', message = 'the batch names no project';
    end if;

    -- 0. The folders, and what only they know: their plans' sessions, and numbers, which nobody else can take while
    -- they are locked.
    any_placed := coalesce(batch -> 'folders' <> '[]', false) or batch @? '$.sessions[*].folder_id';
    if any_placed then
        folders := public.turnlog_write_folders_v1(
            in_project, coalesce(batch -> 'folders', '[]'),
            array(select distinct s.folder_id from unnest(sessions) as s where s.folder_id is not null));
        sessions := sessions || array(
            select r from jsonb_populate_recordset(null::public.ai_sessions, folders -> 'sessions') as r);

        -- Several sessions that want one number are told apart by writing them one after another: the caller parts
        -- the batch, as for any record that it may not contain.
        if exists (select from unnest(sessions) as s
                    where s.session_number is not null
                    group by s.folder_id, s.session_number having count(distinct s.id) > 1) then
            raise exception using errcode = '23505', constraint = 'ai_sessions_folder_number_key',
                message = 'several sessions of one batch want the same number of a folder';
        end if;

        for numbered in
            select s.ordinality as at, s.value ->> 'numbering' as numbering
              from jsonb_array_elements(coalesce(batch -> 'sessions', '[]') || (folders -> 'sessions'))
                   with ordinality as s
             where s.value ? 'numbering'
             order by s.value ->> 'numbering' = 'named', s.ordinality
        loop
            if numbered.numbering = 'named' then
                select s.id
                  into holder
                  from public.ai_sessions as s
                 where s.project = in_project and s.folder_id = (sessions[numbered.at]).folder_id
                   and s.session_number = (sessions[numbered.at]).session_number;
                if holder is not null and holder <> (sessions[numbered.at]).id then
                    aliases := aliases || jsonb_build_object((sessions[numbered.at]).id::text, holder);
                    sessions[numbered.at].id := holder;
                end if;
            elsif not exists (
                -- it has its number, or the batch states it again
                select from public.ai_sessions as s
                 where s.project = in_project and s.id = (sessions[numbered.at]).id and s.session_number is not null
                union all
                select from unnest(sessions) as s
                 where s.id = (sessions[numbered.at]).id and s.session_number is not null)
            then
                select min(free.n)
                  into number
                  from (select generate_series(1, cardinality(sessions) + (
                                   select count(*) from public.ai_sessions as s
                                    where s.project = in_project
                                      and s.folder_id = (sessions[numbered.at]).folder_id)) as n
                        except
                        select s.session_number from public.ai_sessions as s
                         where s.project = in_project and s.folder_id = (sessions[numbered.at]).folder_id
                        except
                        select s.session_number from unnest(sessions) as s
                         where s.folder_id = (sessions[numbered.at]).folder_id) as free;
                sessions[numbered.at].session_number := number;
            end if;
        end loop;

        if aliases <> '{}' then -- who was stated with such a session takes part in the one that has its number
            attending := (
                select coalesce(jsonb_agg(
                           p.value || case when p.value ->> 'numbering' = 'named' then jsonb_build_object('session_id',
                               coalesce(aliases -> (p.value ->> 'session_id'), p.value -> 'session_id')) else '{}' end
                           order by p.ordinality), '[]')
                  from jsonb_array_elements(attending) with ordinality as p);
        end if;

        -- A number that another session has makes its statement a conflict, and nothing else of the batch.
        clashing := array(
            select s.ordinality
              from unnest(sessions) with ordinality as s
             where s.session_number is not null
               and exists (select from public.ai_sessions as other
                            where other.project = in_project and other.folder_id = s.folder_id
                              and other.session_number = s.session_number and other.id <> s.id)
             order by s.ordinality);
    end if;

    select coalesce(array_agg(distinct named.session_id), '{}'), count(distinct named.id),
           coalesce(bool_or(named.created), false), coalesce(bool_or(named.keyed), false),
           coalesce(bool_or(named.participates), false)
      into parents, ids, any_created, any_keyed, any_participants
      from (select s.id as session_id, null::uuid as id, s.implicit is not true as created, s.key is not null as keyed,
                   false as participates
              from unnest(sessions) as s
            union all
            select i.session_id, i.id, false, false, i.participant is not null from unnest(interactions) as i) as named;
    if attending <> '[]' then
        parents := array(
            select unnest(parents) union select (p ->> 'session_id')::uuid from jsonb_array_elements(attending) as p);
    end if;

    insertable := sessions;
    if clashing <> '{}' then
        insertable := array(
            select sessions[s.ordinality] from unnest(sessions) with ordinality as s where s.ordinality <> all (clashing));
        -- of a session whose number is refused only its key is taken, where somebody logged under it or takes part
        insertable := insertable || array(
            select r
              from unnest(sessions) with ordinality as s
             cross join lateral jsonb_populate_record(null::public.ai_sessions, jsonb_build_object(
                   'id', s.id, 'key', s.key, 'implicit', true, 'created_at', s.created_at)) as r
             where s.ordinality = any (clashing)
               and s.id in (select i.session_id from unnest(interactions) as i
                            union all
                            select (p ->> 'session_id')::uuid from jsonb_array_elements(attending) as p));
    end if;

    -- Twice at most: mostly all parents are there, so a look comes first. If some of several are missing, they must
    -- be inserted before any is locked, or one batch could hold what another waits for. Rows never go away, so what
    -- the look has seen is still there to be locked. Each by its primary key, for the reason given below.
    for attempt in (case when cardinality(parents) > 1 and exists (
                             select from unnest(parents) as p (id)
                              where (select s.id from public.ai_sessions as s
                                      where s.project = in_project and s.id = p.id) is null)
                         then 2 else 1 end) .. 2 loop
        -- 1. The missing parents, in the order of their ids.
        if attempt = 2 then
            with named as (
                select distinct on (p.id) p.*
                  from (select s.id, s.key, s.user_id, s.title, s.tags, s.metadata, s.started_at, s.ended_at,
                               s.folder_id, s.session_number, s.scheduled_on, s.status,
                               coalesce(s.implicit, false) as implicit, s.created_at, s.ordinality
                          from unnest(insertable) with ordinality as s
                        union all
                        select i.session_id, null, null, null, null, null, null, null, null, null, null, null, true,
                               i.created_at, null
                          from unnest(interactions) as i) as p
                 order by p.id, p.implicit, p.key is null, p.ordinality
            ), inserted as (
                insert into public.ai_sessions
                       (project, id, key, user_id, title, tags, metadata, started_at, ended_at, folder_id,
                        session_number, scheduled_on, status, implicit, created_at)
                select in_project, n.id, n.key, n.user_id, n.title, n.tags, n.metadata, n.started_at, n.ended_at,
                       n.folder_id, n.session_number, n.scheduled_on, coalesce(n.status, 'open'),
                       n.implicit, coalesce(n.created_at, statement_timestamp())
                  from named as n
                 order by n.id
                    on conflict do nothing
                returning id
            )
            select coalesce(array_agg(i.id), '{}') into parents_born from inserted as i;
        end if;

        -- 2. All parents, locked in the order of their ids: no erase and no other write slips under this one.
        select coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.id) filter (where p.erased_at is not null), '{}'),
               bool_or(p.key is null)
          into parents_present, parents_erased, keys_missing
          from (select s.id, s.key, s.erased_at
                  from public.ai_sessions as s
                 where s.project = in_project and s.id = any (parents)
                 order by s.id
                   for no key update) as p;
        exit when cardinality(parents_present) = cardinality(parents);
    end loop;
    all_open := cardinality(parents_present) = cardinality(parents) and parents_erased = '{}';

    -- 3. What the batch says of sessions that were there. Records of one id are weighed in turn, a round each.
    -- A parent that only came along with its child states its key and nothing else, so mostly there is nothing to weigh.
    if any_created or any_placed or keys_missing and any_keyed then
        select array_agg(s.nth order by s.ordinality), max(s.nth)
          into occurrence, rounds
          from (select s.ordinality, case when s.implicit is not true or s.key is not null or s.folder_id is not null then
                       row_number() over (partition by s.id, s.ordinality = any (clashing)
                                          order by coalesce(s.implicit, false), s.key is null, s.ordinality)
                       end as nth
                  from unnest(sessions) with ordinality as s) as s;
    end if;

    for this_round in 1 .. coalesce(rounds, 0) loop
        with weighed_now as (
            select r.ordinality, r.held, rule.fills, rule.conflicts,
                   (r.held).implicit and not coalesce(r.implicit, false) as adopts
              -- one look by primary key a record, and an upsert below: a join would be planned by statistics,
              -- and those of an empty table make it read the whole project
              from (select r.*, (select held from public.ai_sessions as held
                                  where held.project = in_project and held.id = r.id) as held
                      from unnest(sessions) with ordinality as r
                     where occurrence[r.ordinality] = this_round and r.id <> all (parents_erased)
                       and r.ordinality <> all (clashing)
                       and not (this_round = 1 and r.id = any (parents_born))
                    offset 0) as r
             cross join lateral public.turnlog_fill_rule_v1(
                   -- `open` is no fact of its own, nor is what a session was born with that nobody has created yet
                   to_jsonb(r.held)
                       - case when (r.held).status = 'open' or (r.held).implicit then 'status' else '' end
                       - case when (r.held).implicit and (r.held).scheduled_on <> r.scheduled_on then 'scheduled_on' else '' end
                       - case when (r.held).implicit and (r.held).user_id <> r.user_id then 'user_id' else '' end,
                   to_jsonb(r) - '{project,id,implicit,created_at,erased_at,edited,ordinality,held}'::text[]
                               - case when r.implicit or r.status = 'open' then 'status' else '' end
                               -- a plan only says what nobody else has said
                               - case when r.implicit and (r.held).scheduled_on is not null then 'scheduled_on' else '' end
                               - case when r.implicit and (r.held).user_id is not null then 'user_id' else '' end
                               - coalesce((r.held).edited, '{}')) as rule
             where (r.held).id is not null
               and not (coalesce(r.implicit, false) and (r.held).key is not null and r.folder_id is null)
        ), filled as (
            insert into public.ai_sessions as held
                   (project, id, key, user_id, title, tags, metadata, started_at, ended_at, folder_id, session_number,
                    scheduled_on, status, implicit, created_at)
            select m.project, m.id, m.key, m.user_id, m.title, m.tags, m.metadata, m.started_at, m.ended_at,
                   m.folder_id, m.session_number, m.scheduled_on,
                   case when w.adopts and not coalesce(w.fills ? 'status', false)
                             and 'status' <> all (coalesce((w.held).edited, '{}')) then 'open' else m.status end,
                   m.implicit and not w.adopts, m.created_at
              from weighed_now as w
             cross join lateral jsonb_populate_record(w.held, coalesce(w.fills, '{}')) as m
             where w.conflicts is null and (w.fills is not null or w.adopts)
             order by m.id
                on conflict (project, id) do update
               set (key, user_id, title, tags, metadata, started_at, ended_at, folder_id, session_number, scheduled_on,
                    status, implicit) = (
                   excluded.key, excluded.user_id, excluded.title, excluded.tags, excluded.metadata,
                   excluded.started_at, excluded.ended_at, excluded.folder_id, excluded.session_number,
                   excluded.scheduled_on, excluded.status, excluded.implicit)
        )
        select jsonb_object_agg(w.ordinality, case
                   when w.conflicts is not null
                       then jsonb_build_object('receipt', 'conflict', 'fields', w.conflicts)
                   when w.fills is not null or w.adopts
                       then jsonb_build_object('receipt', 'filled', 'fields',
                                array(select f from jsonb_object_keys(w.fills) as f order by f))
                   else '{"receipt": "duplicate"}'
               end)
          into weighed
          from weighed_now as w;
        session_receipts := session_receipts || coalesce(weighed, '{}');
    end loop;

    -- 4. The interactions that are new.
    if ids = cardinality(interactions) then
        occurrence := null; -- each is the first of its id
        rounds := 1;
    else
        select array_agg(i.nth order by i.ordinality), max(i.nth)
          into occurrence, rounds
          from (select i.ordinality, row_number() over (partition by i.session_id, i.id order by i.ordinality) as nth
                  from unnest(interactions) with ordinality as i) as i;
    end if;

    with inserted as (
        insert into public.ai_interactions
               (project, session_id, id, key, prompt, response, model, provider, status, error, finish_reason,
                started_at, completed_at, latency_ms, time_to_first_token_ms, input_tokens, output_tokens, cost_usd,
                participant, reply_to, turn, tags, metadata, created_at)
        select in_project, i.session_id, i.id, i.key, i.prompt, i.response, i.model, i.provider, i.status, i.error,
               i.finish_reason, i.started_at, i.completed_at, i.latency_ms, i.time_to_first_token_ms, i.input_tokens,
               i.output_tokens, i.cost_usd, i.participant, i.reply_to, i.turn, i.tags, i.metadata,
               coalesce(i.created_at, statement_timestamp())
          from unnest(interactions) with ordinality as i
         where (occurrence is null or occurrence[i.ordinality] = 1)
           and (all_open or i.session_id = any (parents_present) and i.session_id <> all (parents_erased))
            on conflict do nothing
        returning session_id, id
    )
    select coalesce(array_agg(n.session_id), '{}'), coalesce(array_agg(n.id), '{}')
      into born_sessions, born_ids
      from inserted as n;

    -- 5. The interactions that were there already, a round for each record of one id.
    if cardinality(born_ids) < cardinality(interactions) then
        -- by grouping: a join of two lists of unknown length is planned as a nested loop
        select coalesce(array_agg(first.position), '{}')
          into born
          from (select min(known.position) as position
                  from (select i.session_id, i.id, i.ordinality as position from unnest(interactions) with ordinality as i
                        union all
                        select n.session_id, n.id, null from unnest(born_sessions, born_ids) as n (session_id, id)) as known
                 group by known.session_id, known.id
                having bool_or(known.position is null)) as first;

        -- once for all: taken out of the batch row by row, each would copy the whole batch
        on_conflicts := array(
            select i.value ->> 'on_conflict'
              from jsonb_array_elements(batch -> 'interactions') with ordinality as i
             order by i.ordinality);

        for this_round in 1 .. rounds loop
            with weighed_now as (
                select r.ordinality, r.held,
                       case r.on_conflict
                           when 'report' then null
                           when 'fill' then rule.fills
                           else case when rule.conflicts is null then rule.fills end
                       end as fills,
                       nullif(rule.conflicts || case when r.on_conflict = 'report' then array(
                           select f from jsonb_object_keys(rule.fills) as f order by f) end, '{}') as differing
                  from (select r.*, (select held from public.ai_interactions as held
                                      where held.project = in_project and held.session_id = r.session_id
                                        and held.id = r.id) as held,
                               on_conflicts[r.ordinality] as on_conflict
                          from unnest(interactions) with ordinality as r
                         where (occurrence is null or occurrence[r.ordinality] = this_round)
                           and r.ordinality <> all (born)
                        offset 0) as r
                 cross join lateral public.turnlog_fill_rule_v1(
                       to_jsonb(r.held),
                       to_jsonb(r) - '{project,session_id,id,created_at,ordinality,held,on_conflict}'::text[]) as rule
                 where (r.held).id is not null
            ), filled as (
                insert into public.ai_interactions as held
                select m.*
                  from weighed_now as w
                 cross join lateral jsonb_populate_record(w.held, w.fills) as m
                 where w.fills is not null
                    on conflict (project, session_id, id) do update
                   set (key, prompt, response, model, provider, status, error, finish_reason, started_at, completed_at,
                        latency_ms, time_to_first_token_ms, input_tokens, output_tokens, cost_usd, participant,
                        reply_to, turn, tags, metadata) = (
                        excluded.key, excluded.prompt, excluded.response, excluded.model, excluded.provider,
                        excluded.status, excluded.error, excluded.finish_reason, excluded.started_at,
                        excluded.completed_at, excluded.latency_ms, excluded.time_to_first_token_ms,
                        excluded.input_tokens, excluded.output_tokens, excluded.cost_usd, excluded.participant,
                        excluded.reply_to, excluded.turn, excluded.tags, excluded.metadata)
            )
            select jsonb_object_agg(w.ordinality, case
                       when w.fills is not null
                           then jsonb_build_object('receipt', 'filled', 'fields',
                                    array(select f from jsonb_object_keys(w.fills) as f order by f))
                                || case when w.differing is not null
                                        then jsonb_build_object('differs', w.differing) else '{}' end
                       when w.differing is not null
                           then jsonb_build_object('receipt', 'conflict', 'fields', w.differing)
                       else '{"receipt": "duplicate"}'
                   end)
              into weighed
              from weighed_now as w;
            interaction_receipts := interaction_receipts || coalesce(weighed, '{}');
        end loop;
    end if;

    -- 6. The participants: those stated, then those whom the interactions name.
    if attending <> '[]' then
        participants := public.turnlog_write_participants_v1(in_project, attending, parents_present, parents_erased);
    end if;
    if any_participants then
        insert into public.ai_session_participants (project, session_id, participant, created_at)
        select in_project, named.session_id, named.participant, min(named.created_at)
          from (select i.session_id, (select held.participant
                                        from public.ai_interactions as held
                                       where held.project = in_project and held.session_id = i.session_id
                                         and held.id = i.id) as participant,
                       coalesce(i.created_at, statement_timestamp()) as created_at
                  from unnest(interactions) as i
                 where i.participant is not null) as named
         where named.participant is not null
         group by named.session_id, named.participant
            on conflict do nothing;
    end if;

    -- 7. The receipts. A record with neither a row of its own nor an erased session met another row's natural key.
    session_receipts := case
        when all_open and session_receipts = '{}' and not return_parents and not any_placed and parents_born = '{}'
            then to_jsonb(array_fill('{"receipt": "duplicate"}'::jsonb, array[cardinality(sessions)]))
        when all_open and session_receipts = '{}' and not return_parents and not any_placed
             and cardinality(parents_born) = cardinality(parents)
            then to_jsonb(array_fill('{"receipt": "created"}'::jsonb, array[cardinality(sessions)]))
        else (
            select coalesce(jsonb_agg(coalesce(
                       session_receipts -> s.ordinality::text,
                       case when s.ordinality = any (clashing)
                                then public.turnlog_session_clash_v1(in_project, sessions[s.ordinality])
                            when s.id = any (parents_erased) then '{"receipt": "rejected", "reason": "erased"}'::jsonb
                            when s.id = any (parents_born) then '{"receipt": "created"}'
                            when s.id = any (parents_present) then '{"receipt": "duplicate"}'
                            else public.turnlog_session_clash_v1(in_project, sessions[s.ordinality])
                       end) || case when return_parents and s.implicit is not true then jsonb_build_object(
                                   'session', public.turnlog_session_rows_v1(in_project, array[s.id]) -> 0)
                               else '{}' end
                   order by s.ordinality), '[]')
              from unnest(sessions) with ordinality as s)
        end;
    if any_placed then
        folders := (
            select coalesce(jsonb_agg(
                       f.value
                       || case when batch -> 'folders' -> (f.ordinality - 1)::integer ? 'sessions'
                               then jsonb_build_object('planned', coalesce(
                                   (select jsonb_agg((session_receipts -> (stated_sessions + p.ordinality - 1)::integer)
                                               || jsonb_build_object(
                                                   'session_id', (sessions[stated_sessions + p.ordinality]).id,
                                                   'session_number', p.value -> 'session_number')
                                               order by p.ordinality)
                                      from jsonb_array_elements(folders -> 'sessions') with ordinality as p
                                     where (p.value ->> 'of_folder')::bigint = f.ordinality), '[]')) else '{}' end
                       || case when return_parents
                                    and batch -> 'folders' -> (f.ordinality - 1)::integer -> 'implicit' <> 'true'
                               then jsonb_build_object(
                                   'folder', public.turnlog_folder_rows_v1(in_project, array[
                                       (batch -> 'folders' -> (f.ordinality - 1)::integer ->> 'id')::uuid]) -> 0)
                               else '{}' end
                       order by f.ordinality), '[]')
              from jsonb_array_elements(folders -> 'receipts') with ordinality as f);
        session_receipts := (
            select coalesce(jsonb_agg(r.value order by r.ordinality), '[]')
              from jsonb_array_elements(session_receipts) with ordinality as r
             where r.ordinality <= stated_sessions);
    end if;
    return jsonb_build_object(
        'folders', coalesce(folders, '[]'),
        'sessions', session_receipts,
        'participants', participants,
        'interactions', case
            when cardinality(born_ids) = cardinality(interactions)
                then to_jsonb(array_fill('{"receipt": "created"}'::jsonb, array[cardinality(born_ids)]))
            else (
                select jsonb_agg(coalesce(
                           interaction_receipts -> i.ordinality::text,
                           case when i.ordinality = any (born) then '{"receipt": "created"}'::jsonb
                                when i.session_id = any (parents_erased)
                                    then '{"receipt": "rejected", "reason": "erased"}'
                                else public.turnlog_key_clash_v1(in_project,
                                         (select s.key from unnest(sessions) as s where s.id = i.session_id limit 1),
                                         i.session_id, i.key)
                           end) order by i.ordinality)
                  from unnest(interactions) with ordinality as i)
            end);
end
$$;


-- What writing a batch would do, as turnlog_write_v1 would say: it is written, and taken back.
create or replace function public.turnlog_explain_v1(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    receipts jsonb;
begin
    begin
        receipts := public.turnlog_write_v1(batch);
        raise exception using errcode = 'TLXPL', message = 'only explained';
    exception when sqlstate 'TLXPL' then
        return receipts; -- a variable outlives what is rolled back
    end;
end
$$;


-- {project, folder_id, limit, after?: {number, session_id}} -> {folder, sessions, after}: the folder, or null, and a
-- page of its sessions by their numbers, those without one last.
create or replace function public.turnlog_folder_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- the rows of one folder, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_folder constant uuid := request ->> 'folder_id';
    page_size constant integer := (request ->> 'limit')::integer;
    after_number constant integer := request #>> '{after,number}';
    after_id constant uuid := request #>> '{after,session_id}';
    ids uuid[];
    numbers integer[];
begin
    -- one more than the page, to know whether there is a next one
    select array_agg(page.id), array_agg(page.number)
      into ids, numbers
      from (select s.id, coalesce(s.session_number, 2147483647) as number
              from public.ai_sessions as s
             where s.project = in_project and s.folder_id = of_folder and s.erased_at is null
               and (after_id is null or (coalesce(s.session_number, 2147483647), s.id) > (after_number, after_id))
             order by number, s.id
             limit page_size + 1) as page;
    return jsonb_build_object(
        'folder', public.turnlog_folder_rows_v1(in_project, array[of_folder]) -> 0,
        'sessions', public.turnlog_session_rows_v1(in_project, coalesce(ids[:page_size], '{}')),
        'after', case when cardinality(ids) > page_size
            then jsonb_build_object('number', numbers[page_size], 'session_id', ids[page_size]) end);
end
$$;


-- {project, limit, user_id?, after?: folder id} -> {folders, after}, in the order of their ids.
create or replace function public.turnlog_folders_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    of_user constant text := request ->> 'user_id';
    after_id constant uuid := request ->> 'after';
    ids uuid[];
begin
    ids := array(
        select f.id
          from public.ai_session_folders as f
         where f.project = in_project and (of_user is null or f.user_id = of_user)
           and (after_id is null or f.id > after_id)
         order by f.id
         limit page_size + 1);
    return jsonb_build_object(
        'folders', public.turnlog_folder_rows_v1(in_project, ids[:page_size]),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;


-- {project, session_id} -> {session, participants}: who takes part, in the order of their arrival. `session` is null
-- if there is none.
create or replace function public.turnlog_participants_v1(request jsonb) returns jsonb
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
    select jsonb_build_object(
        'session', (select jsonb_build_object('session_id', s.id, 'key', s.key, 'erased_at', s.erased_at)
                      from public.ai_sessions as s
                     where s.project = request ->> 'project' and s.id = (request ->> 'session_id')::uuid),
        'participants', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'participant', p.participant, 'role', p.role, 'state', p.state,
                       'created_at', p.created_at) order by p.created_at, p.participant), '[]')
              from public.ai_session_participants as p
             where p.project = request ->> 'project' and p.session_id = (request ->> 'session_id')::uuid))
$$;


-- {project, session_id, changes: {title?, tags?, status?, scheduled_on?, metadata?}} -> the session, a tombstone or null. The value
-- given replaces the one stored; null empties it. An edited field is the editor's: see ai_sessions.edited.
create or replace function public.turnlog_edit_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    changes constant jsonb := request -> 'changes';
begin
    update public.ai_sessions as s
       set (title, tags, status, scheduled_on, metadata) = (
               select m.title, m.tags, coalesce(m.status, 'open'), m.scheduled_on, m.metadata from jsonb_populate_record(s, changes) as m),
           edited = array(
               select f from unnest(s.edited) as f
               union
               select f from jsonb_object_keys(changes) as f where f in ('title', 'tags', 'status', 'scheduled_on', 'metadata'))
     where s.project = request ->> 'project' and s.id = (request ->> 'session_id')::uuid and s.erased_at is null;
    return public.turnlog_session_v1(request);
end
$$;


-- {project, session_id} -> {session_id, erased_at, interactions: count} or null. The session's row stays as a
-- tombstone without content, so that no late replay can bring it back; its number in its folder stays taken. Asking again changes nothing.
create or replace function public.turnlog_erase_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    gone_at timestamptz;
    gone bigint;
begin
    -- the lock comes first, in a statement of its own: the delete below then sees every append that won
    select coalesce(s.erased_at, statement_timestamp())
      into gone_at
      from public.ai_sessions as s
     where s.project = in_project and s.id = of_session
       for update;
    if not found then
        return null;
    end if;

    delete from public.ai_interactions as i where i.project = in_project and i.session_id = of_session;
    get diagnostics gone = row_count;
    delete from public.ai_session_participants as p where p.project = in_project and p.session_id = of_session;

    update public.ai_sessions as s
       set key = null, user_id = null, title = null, tags = null, metadata = null, edited = null,
           started_at = null, ended_at = null, scheduled_on = null, erased_at = gone_at
     where s.project = in_project and s.id = of_session and s.erased_at is null;
    return jsonb_build_object('session_id', of_session, 'erased_at', gone_at, 'interactions', gone);
end
$$;


-- {project, limit} -> {sessions, interactions, left}: takes up to `limit` interactions of a self-test's project away
-- for good, and after the last of them up to `limit` sessions, with no tombstone; `left` counts the rows that are there
-- afterwards. Refuses any other project: what people log is erased by turnlog_erase_v1 only.
create or replace function public.turnlog_forget_project_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- a self-test's rows were never analysed: a plan by statistics would read everyone's
as $$
declare
    in_project constant text := coalesce(request ->> 'project', '');
    most constant integer := request ->> 'limit';
    gone_interactions bigint;
    gone_sessions bigint := 0;
begin
    if in_project !~ '^selftest-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using errcode = '22023', column = 'project',
            message = format('only the project of a self-test can be forgotten, not %L', in_project);
    end if;

    -- by address, found first: joined, a plan without statistics compared each row with each
    delete from public.ai_interactions as i
     where i.ctid = any (array(
           select d.ctid from public.ai_interactions as d where d.project = in_project limit most));
    get diagnostics gone_interactions = row_count;

    if gone_interactions < most then
        delete from public.ai_session_participants as p where p.project = in_project;
        delete from public.ai_sessions as s
         where s.ctid = any (array(
               select d.ctid from public.ai_sessions as d where d.project = in_project limit most));
        get diagnostics gone_sessions = row_count;
        delete from public.ai_session_folders as f
         where f.project = in_project and not exists (select from public.ai_sessions as s where s.project = in_project);
    end if;

    return jsonb_build_object(
        'interactions', gone_interactions, 'sessions', gone_sessions,
        'left', (select count(*) from public.ai_interactions as i where i.project = in_project)
              + (select count(*) from public.ai_sessions as s where s.project = in_project)
              + (select count(*) from public.ai_session_folders as f where f.project = in_project));
end
$$;


-- Nobody but the service: row-level security without policies, all rights revoked. On Supabase the service is
-- service_role; elsewhere it is the role that owns these tables. Each migration ends with this, for what it made.
create or replace function public.turnlog_close_v1() returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    object text;
    has_service_role constant boolean := exists (select from pg_catalog.pg_roles where rolname = 'service_role');
    others constant text := (
        select concat_ws(', ', 'public', string_agg(quote_ident(r.rolname), ', '))
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated'));
begin
    foreach object in array array['public.ai_session_folders', 'public.ai_sessions', 'public.ai_session_participants',
                                  'public.ai_interactions'] loop
        execute format('alter table %s enable row level security', object);
        execute format('revoke all on table %s from %s', object, others);
        if has_service_role then
            execute format('grant select, insert, update, delete on table %s to service_role', object);
        end if;
    end loop;

    for object in
        select p.oid::regprocedure::text
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'public'::regnamespace and p.proname like 'turnlog\_%'
    loop
        execute format('revoke all on function %s from %s', object, others);
        if has_service_role then
            execute format('grant execute on function %s to service_role', object);
        end if;
    end loop;
end
$$;


do $$ begin perform public.turnlog_close_v1(); end $$;
