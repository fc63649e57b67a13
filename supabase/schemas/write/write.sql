-- Writes a batch in one transaction. Takes {project, folders, sessions, participants, interactions, feedback, spans?: [row
-- ...] each, return_parents?, late?, database?, dry_run?}. Returns {folders, sessions, participants, interactions, feedback,
-- spans?}: for each kind a list of receipts in the order of its rows, or one outcome that holds for all of them.
-- A receipt is {receipt: created | filled | duplicate | revised | conflict | rejected, ...}.
--
-- A row holds values under its columns' names, and may hold more:
--   folders       `sessions`: those of its plan; they are written unless the plan is a conflict, and their receipts are
--                 in the folder's receipt
--   sessions      `implicit`: no caller sent it, it is the parent of a child; `numbering`: `next` gives it the lowest free
--                 number of its folder if it has none yet, `named` means the session that has this number
--   interactions  `on_conflict`: `report` changes nothing that is stored, `fill` fills empty fields although others
--                 contradict, `revise` keeps what contradicts as a revision: see turnlog.revision_rule;
--                 `revisions`: those that an export has of it, see turnlog.restore_revisions
--   spans         `trace_session`: the session of calls of the trace while nothing names one; `source`: what it comes of,
--                 `span` or `events`; `call`: the fields of an interaction; `feedback`: [row ...] on it, or
--                 on its session where a row has `of_session`.
--                 See turnlog.place_spans
--   any but folders and spans  `claim`: the owner that its session must have; a session that doesn't exist gets this owner
-- `return_parents`: receipts carry the folder or session as stored afterwards. `late`: the batch comes from a spool, so
-- rows received before their user was erased are rejected. `database`: the one that it was acknowledged for; any other
-- raises TL001. `dry_run`: return the receipts and write nothing.
--
-- Rows that name a guest who was merged into a user are the user's: see turnlog.follow_merges.
--
-- It locks the traces of its spans in the order of their ids first; only calls that two traces have in common can let it
-- deadlock with another batch of them, and the one that fails is written again. Otherwise
-- it can't deadlock: it inserts and locks folders in the order of their ids, then inserts missing sessions in that order,
-- then locks the others in that order. Every write and erasure holds the lock of its session until it commits, so what is
-- read below the session afterwards stays true. Each step is a statement of its own, since a statement only sees what
-- committed before it began.
create or replace function turnlog.write(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan' -- planning each time took a third of a call
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s' -- a longer wait raises 55P03: blocked by a lock, not an outage
as $$
declare
    in_project constant text := request ->> 'project';
    late constant boolean := coalesce((request ->> 'late')::boolean, false);
    rows jsonb := request;           -- the rows that aren't rejected
    claimed boolean;                 -- a row demands an owner
    erased_rejected jsonb := '{}';   -- kind -> position -> receipt
    claims_rejected jsonb := '{}';
    races_rejected jsonb := '{}';
    folders jsonb := '{}';           -- as turnlog.write_folders returns them
    erasures text;                   -- a fingerprint of the erased users when `late` rows were checked
    placed jsonb;                    -- the spans, with their places
    parents record;
    rejected jsonb;
    receipts jsonb;
begin
    if in_project is null then
        raise exception using errcode = '23502', column = 'project', message = 'the batch names no project';
    elsif (request ->> 'dry_run')::boolean then
        return turnlog.dry_run(request - 'dry_run');
    end if;
    if request ? 'database' then
        if request ->> 'database' is distinct from turnlog.database_id() then
            raise exception using errcode = 'TL001', message = 'the batch was acknowledged for another database';
        end if;
    end if;

    if rows ? 'spans' then
        perform turnlog.lock_merges(in_project);
        rows := turnlog.place_spans(in_project, rows);
        placed := rows -> 'spans';
    end if;
    if late then
        select format('%s %s', count(*), sum(extract(epoch from e.erased_at))) into erasures
          from turnlog.ai_erased_users as e where e.project = in_project;
    end if;
    if late and exists (select from turnlog.ai_erased_users as e where e.project = in_project) then
        erased_rejected := turnlog.reject_erased(in_project, rows);
        rows := turnlog.drop_rejected(rows, erased_rejected);
        if erased_rejected ? 'spans' then
            rows := rows || jsonb_build_object('erased_participants', (
                select jsonb_agg(distinct s.value -> 'participant')
                  from jsonb_array_elements(placed) with ordinality as s
                 where erased_rejected -> 'spans' ? s.ordinality::text and s.value ->> 'participant' is not null));
        end if;
    end if;
    perform turnlog.lock_merges(in_project);
    rows := turnlog.follow_merges(in_project, rows);
    claimed := rows @? '$.*[*].claim';
    if claimed then -- before any lock: false claims don't make the owner wait
        claims_rejected := turnlog.reject_false_claims(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.drop_rejected(rows, claims_rejected);
    end if;
    if jsonb_array_length(rows -> 'folders') > 0 or rows @? '$.sessions[*].folder_id' then
        folders := turnlog.write_folders(in_project, rows);
        rows := rows || turnlog.number_sessions(in_project, rows, folders -> 'sessions');
    end if;

    select e.* into parents from turnlog.ensure_sessions(in_project, rows) as e;
    if late and erasures <> (select format('%s %s', count(*), sum(extract(epoch from e.erased_at)))
                               from turnlog.ai_erased_users as e where e.project = in_project) then
        raise exception using errcode = '55P03', message = 'a user was erased while this batch waited for a lock: retry';
    end if;
    if claimed then -- again: of several that create one session, in this batch or meanwhile, the first owns it
        races_rejected := turnlog.reject_false_claims(rows, turnlog.session_owners(in_project, rows));
        rows := turnlog.drop_rejected(rows, races_rejected);
    end if;

    if rows ? 'spans' then
        rows := turnlog.gather_calls(in_project, rows, parents.rejected);
    end if;

    -- participants before interactions: they have a role and a state, while interactions only name them
    receipts := jsonb_build_object(
        'sessions', case when parents.needs_no_fill and parents.present = '{}' then '"created"'
                         when parents.needs_no_fill and parents.created = '{}' then '"duplicate"'
                         else turnlog.write_sessions(in_project, rows, parents.created, parents.present, parents.rejected) end,
        'participants', case when jsonb_array_length(rows -> 'participants') > 0
                             then turnlog.write_participants(in_project, rows, parents.rejected) end,
        'interactions', case when jsonb_array_length(rows -> 'interactions') > 0
                             then turnlog.write_interactions(in_project, rows, parents.rejected) end,
        'feedback', case when jsonb_array_length(rows -> 'feedback') > 0
                         then turnlog.write_feedback(in_project, rows, parents.rejected) end);
    if folders <> '{}' or request -> 'return_parents' = 'true' then
        receipts := receipts || turnlog.attach_parents(
            in_project, rows, coalesce(folders -> 'receipts', '[]'), receipts -> 'sessions');
    end if;
    if rows ? 'spans' then
        receipts := receipts || jsonb_build_object('spans', turnlog.span_receipts(rows, receipts, parents.rejected));
    end if;
    foreach rejected in array array[races_rejected, claims_rejected, erased_rejected] loop
        if rejected <> '{}' then
            receipts := turnlog.add_rejected(receipts, rejected, rows);
        end if;
    end loop;
    if rows ? 'spans' then
        perform turnlog.erase_rejected_spans(in_project, placed, receipts -> 'spans');
        receipts := turnlog.drop_added(receipts, request);
    end if;
    return receipts;
end
$$;
