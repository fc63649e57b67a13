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
create or replace function turnlog.write_v1(batch jsonb) returns jsonb
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
    sessions turnlog.ai_sessions[] := array(
        select r from jsonb_populate_recordset(null::turnlog.ai_sessions, coalesce(batch -> 'sessions', '[]')) as r);
    interactions constant turnlog.ai_interactions[] := array(
        select r from jsonb_populate_recordset(null::turnlog.ai_interactions, coalesce(batch -> 'interactions', '[]')) as r);
    folders jsonb;                -- what became of the folders
    numbered record;
    number integer;
    holder uuid;
    clashing bigint[] := '{}';    -- positions of sessions whose number another one has
    insertable turnlog.ai_sessions[];
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
        folders := turnlog.write_folders(
            in_project, coalesce(batch -> 'folders', '[]'),
            array(select distinct s.folder_id from unnest(sessions) as s where s.folder_id is not null));
        sessions := sessions || array(
            select r from jsonb_populate_recordset(null::turnlog.ai_sessions, folders -> 'sessions') as r);

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
                  from turnlog.ai_sessions as s
                 where s.project = in_project and s.folder_id = (sessions[numbered.at]).folder_id
                   and s.session_number = (sessions[numbered.at]).session_number;
                if holder is not null and holder <> (sessions[numbered.at]).id then
                    aliases := aliases || jsonb_build_object((sessions[numbered.at]).id::text, holder);
                    sessions[numbered.at].id := holder;
                end if;
            elsif not exists (
                -- it has its number, or the batch states it again
                select from turnlog.ai_sessions as s
                 where s.project = in_project and s.id = (sessions[numbered.at]).id and s.session_number is not null
                union all
                select from unnest(sessions) as s
                 where s.id = (sessions[numbered.at]).id and s.session_number is not null)
            then
                select min(free.n)
                  into number
                  from (select generate_series(1, cardinality(sessions) + (
                                   select count(*) from turnlog.ai_sessions as s
                                    where s.project = in_project
                                      and s.folder_id = (sessions[numbered.at]).folder_id)) as n
                        except
                        select s.session_number from turnlog.ai_sessions as s
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
               and exists (select from turnlog.ai_sessions as other
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
             cross join lateral jsonb_populate_record(null::turnlog.ai_sessions, jsonb_build_object(
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
                              where (select s.id from turnlog.ai_sessions as s
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
                insert into turnlog.ai_sessions
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
                  from turnlog.ai_sessions as s
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
              from (select r.*, (select held from turnlog.ai_sessions as held
                                  where held.project = in_project and held.id = r.id) as held
                      from unnest(sessions) with ordinality as r
                     where occurrence[r.ordinality] = this_round and r.id <> all (parents_erased)
                       and r.ordinality <> all (clashing)
                       and not (this_round = 1 and r.id = any (parents_born))
                    offset 0) as r
             cross join lateral turnlog.fill_rule(
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
            insert into turnlog.ai_sessions as held
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
        insert into turnlog.ai_interactions
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
                  from (select r.*, (select held from turnlog.ai_interactions as held
                                      where held.project = in_project and held.session_id = r.session_id
                                        and held.id = r.id) as held,
                               on_conflicts[r.ordinality] as on_conflict
                          from unnest(interactions) with ordinality as r
                         where (occurrence is null or occurrence[r.ordinality] = this_round)
                           and r.ordinality <> all (born)
                        offset 0) as r
                 cross join lateral turnlog.fill_rule(
                       to_jsonb(r.held),
                       to_jsonb(r) - '{project,session_id,id,created_at,ordinality,held,on_conflict}'::text[]) as rule
                 where (r.held).id is not null
            ), filled as (
                insert into turnlog.ai_interactions as held
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
        participants := turnlog.write_participants(in_project, attending, parents_present, parents_erased);
    end if;
    if any_participants then
        insert into turnlog.ai_session_participants (project, session_id, participant, created_at)
        select in_project, named.session_id, named.participant, min(named.created_at)
          from (select i.session_id, (select held.participant
                                        from turnlog.ai_interactions as held
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
                                then turnlog.session_clash(in_project, sessions[s.ordinality])
                            when s.id = any (parents_erased) then '{"receipt": "rejected", "reason": "erased"}'::jsonb
                            when s.id = any (parents_born) then '{"receipt": "created"}'
                            when s.id = any (parents_present) then '{"receipt": "duplicate"}'
                            else turnlog.session_clash(in_project, sessions[s.ordinality])
                       end) || case when return_parents and s.implicit is not true then jsonb_build_object(
                                   'session', turnlog.session_rows(in_project, array[s.id]) -> 0)
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
                                   'folder', turnlog.folder_rows(in_project, array[
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
                                else turnlog.key_clash(in_project,
                                         (select s.key from unnest(sessions) as s where s.id = i.session_id limit 1),
                                         i.session_id, i.key)
                           end) order by i.ordinality)
                  from unnest(interactions) with ordinality as i)
            end);
end
$$;
