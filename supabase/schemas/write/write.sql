-- Writes a batch in one transaction: {project, folders, sessions, participants, interactions, feedback: [row ...] each,
-- return_parents?, late?, dry_run?}. Answers {folders, sessions, participants, interactions, feedback}: for each kind
-- either a list of receipts in the order of its rows, or one word, which is the receipt of each of them.
-- A receipt is {receipt: created | filled | duplicate | conflict | rejected, ...}.
--
-- A row holds values under its columns' names, and may hold more:
--   folders       `sessions`, its plan's: they are written unless the plan is refused, and their receipts are in the folder's
--   sessions      `implicit`: it only came along with a child; `numbering`: `next` gives it the lowest free number of its
--                 folder when it has none yet, `named` means whichever session has its number
--   interactions  `on_conflict`: `report` changes nothing that is there, `fill` fills what is empty though other facts
--                 contradict
--   any but folders  `claim`: the owner that its session must have; a session that isn't there becomes the claimant's
-- `return_parents`: receipts carry the folder or session as it is afterwards. `late`: the batch has waited in a spool,
-- and what was received before its user was erased is rejected. `dry_run`: says what it would do, and does nothing.
--
-- It can't deadlock: folders are inserted and locked in the order of their ids, then missing sessions are inserted in
-- that order, then the others are locked in that order. Whoever writes or erases below a session holds its lock until
-- it commits, so what is read there afterwards stays true. Each step is a statement of its own, since each one sees
-- what committed before it.
create or replace function turnlog.write(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan' -- planning anew took a third of a call
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s' -- who waits longer for a lock shall know that it is one, not that the store is away
as $$
declare
    in_project constant text := request ->> 'project';
    late constant boolean := coalesce((request ->> 'late')::boolean, false);
    rows jsonb := request;           -- what isn't refused
    claimed boolean;                 -- some row says whose its session must be
    erased_refused jsonb := '{}';    -- kind -> position -> receipt
    claims_refused jsonb := '{}';
    races_refused jsonb := '{}';
    folders jsonb := '{}';           -- what became of the folders, with what only they know of their sessions
    erasures text;                   -- of which users, as of when `late` rows were checked
    parents record;
    refused jsonb;
    receipts jsonb;
begin
    if in_project is null then
        raise exception using errcode = '23502', column = 'project', message = 'the batch names no project';
    elsif (request ->> 'dry_run')::boolean then
        return turnlog.dry_run(request - 'dry_run');
    end if;

    if late then
        select format('%s %s', count(*), sum(extract(epoch from e.erased_at))) into erasures
          from turnlog.ai_erased_users as e where e.project = in_project;
    end if;
    if late and exists (select from turnlog.ai_erased_users as e where e.project = in_project) then
        erased_refused := turnlog.refuse_erased(in_project, rows);
        rows := turnlog.without_refused(rows, erased_refused);
    end if;
    claimed := rows @? '$.*[*].claim';
    if claimed then -- before any lock: a stranger's rows don't make the owner wait
        claims_refused := turnlog.refuse_strangers(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.without_refused(rows, claims_refused);
    end if;
    if jsonb_array_length(rows -> 'folders') > 0 or rows @? '$.sessions[*].folder_id' then
        folders := turnlog.write_folders(in_project, rows);
        rows := rows || turnlog.number_sessions(in_project, rows, folders -> 'sessions');
    end if;

    select e.* into parents from turnlog.ensure_sessions(in_project, rows) as e;
    if late and erasures <> (select format('%s %s', count(*), sum(extract(epoch from e.erased_at)))
                               from turnlog.ai_erased_users as e where e.project = in_project) then
        raise exception using errcode = '55P03', message = 'a user was erased while this waited for a lock: write it again';
    end if;
    if claimed then -- once more: of several who make one session, here or meanwhile, the first has it
        races_refused := turnlog.refuse_strangers(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.without_refused(rows, races_refused);
    end if;

    -- participants before interactions: those state a role and a state, these only name who takes part
    receipts := jsonb_build_object(
        'sessions', case when parents.plain and parents.present = '{}' then '"created"'
                         when parents.plain and parents.created = '{}' then '"duplicate"'
                         else turnlog.write_sessions(in_project, rows, parents.created, parents.present, parents.refused) end,
        'participants', case when jsonb_array_length(rows -> 'participants') > 0
                             then turnlog.write_participants(in_project, rows, parents.refused) end,
        'interactions', case when jsonb_array_length(rows -> 'interactions') > 0
                             then turnlog.write_interactions(in_project, rows, parents.refused) end,
        'feedback', case when jsonb_array_length(rows -> 'feedback') > 0
                         then turnlog.write_feedback(in_project, rows, parents.refused) end);
    if folders <> '{}' or request -> 'return_parents' = 'true' then
        receipts := receipts || turnlog.add_parents(
            in_project, rows, coalesce(folders -> 'receipts', '[]'), receipts -> 'sessions');
    end if;
    foreach refused in array array[races_refused, claims_refused, erased_refused] loop
        if refused <> '{}' then
            receipts := turnlog.with_refused(receipts, refused, rows);
        end if;
    end loop;
    return receipts;
end
$$;
