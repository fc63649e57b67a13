-- Writes a batch's feedback, below sessions that the batch has locked. Receipts in the order of the list.
--
-- Of all that one author says of one interaction under one name the statement with the latest `given_at` is kept, and of
-- those of one moment the one whose value, then whose comment, is the greater text: so any order, doubling and delay
-- leave the same row. A receipt is `filled` where a statement took the place of another one, with the fields that are
-- different now, and `duplicate` where it says what is there, or, with the reason `older`, something that was said
-- before. `late`: it has waited in a spool, and what was received before its author was erased is rejected.
create or replace function turnlog.write_feedback(in_project text, feedback jsonb, late boolean) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    stated record;
    of_session record;
    held turnlog.ai_feedback;
    is_newer boolean;
    fields text[];
    receipts jsonb := '[]';
begin
    for stated in
        select f.*
          from jsonb_to_recordset(feedback) as f (
               session_id uuid, interaction_id uuid, author text, name text, value jsonb, comment text,
               given_at timestamptz, created_at timestamptz, claim text)
    loop
        select s.id, s.erased_at, coalesce(s.claim, 'user:' || s.user_id, '') as owner
          into of_session
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = stated.session_id;
        if of_session.erased_at is not null
           or late and exists (
               select from turnlog.ai_erased_users as e
                where e.project = in_project and stated.created_at <= e.erased_at
                  and e.user_hash in (turnlog.user_hash(in_project, stated.author),
                                      case when stated.claim like 'user:%' then
                                          turnlog.user_hash(in_project, substr(stated.claim, 6)) end))
        then
            receipts := receipts || '{"receipt": "rejected", "reason": "erased"}'::jsonb;
            continue;
        elsif of_session.id is null then
            receipts := receipts || '{"receipt": "rejected", "reason": "the session was refused"}'::jsonb;
            continue;
        elsif stated.claim <> of_session.owner then
            receipts := receipts || '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb;
            continue;
        end if;

        stated.author := coalesce(stated.author, '');
        stated.created_at := coalesce(stated.created_at, statement_timestamp());
        stated.given_at := coalesce(stated.given_at, stated.created_at);
        insert into turnlog.ai_feedback
               (project, session_id, interaction_id, author, name, value, comment, given_at, created_at)
        values (in_project, stated.session_id, stated.interaction_id, stated.author, stated.name, stated.value,
                stated.comment, stated.given_at, stated.created_at)
            on conflict do nothing;
        if found then
            receipts := receipts || '{"receipt": "created"}'::jsonb;
            continue;
        end if;

        select f.* into held
          from turnlog.ai_feedback as f
         where f.project = in_project and f.session_id = stated.session_id
           and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        is_newer := (stated.given_at, stated.value::text collate "C", coalesce(stated.comment, '') collate "C")
                  > (held.given_at, held.value::text collate "C", coalesce(held.comment, '') collate "C");
        fields := array_remove(array[
            case when is_newer and stated.value <> held.value then 'value' end,
            case when is_newer and stated.comment is distinct from held.comment then 'comment' end], null);
        if is_newer then
            update turnlog.ai_feedback as f
               set value = stated.value, comment = stated.comment, given_at = stated.given_at,
                   created_at = least(held.created_at, stated.created_at)
             where f.project = in_project and f.session_id = stated.session_id
               and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        elsif stated.created_at < held.created_at then
            update turnlog.ai_feedback as f
               set created_at = stated.created_at
             where f.project = in_project and f.session_id = stated.session_id
               and f.interaction_id = stated.interaction_id and f.author = stated.author and f.name = stated.name;
        end if;
        receipts := receipts || case
            when fields <> '{}' then jsonb_build_object('receipt', 'filled', 'fields', fields)
            when not is_newer and (stated.value <> held.value or stated.comment is distinct from held.comment)
                then '{"receipt": "duplicate", "reason": "older"}'::jsonb
            else '{"receipt": "duplicate"}'::jsonb end;
    end loop;
    return receipts;
end
$$;
