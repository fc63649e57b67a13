-- Writes a batch's feedback, below sessions that it has locked. Answers their receipts in order.
--
-- Of all that one author says of one interaction under one name the statement with the latest `given_at` is kept, and of
-- those of one moment the one whose value, then whose comment, is the greater text: so any order, doubling and delay
-- leave the same row. A receipt is `filled` where a statement took the place of another one, with the fields that are
-- different now, and `duplicate` where it says what is there, or, with the reason `older`, something that was said
-- before.
create or replace function turnlog.write_feedback(in_project text, rows jsonb, refused jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    stated record;
    held turnlog.ai_feedback;
    is_newer boolean;
    fields text[];
    receipts jsonb[] := '{}';
begin
    for stated in
        select f.*
          from jsonb_to_recordset(rows -> 'feedback') as f (
               session_id uuid, interaction_id uuid, author text, name text, value jsonb, comment text,
               given_at timestamptz, created_at timestamptz)
    loop
        if refused ? stated.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', refused -> stated.session_id::text));
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
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
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
        receipts := array_append(receipts, case
            when fields <> '{}' then jsonb_build_object('receipt', 'filled', 'fields', fields)
            when not is_newer and (stated.value <> held.value or stated.comment is distinct from held.comment)
                then '{"receipt": "duplicate", "reason": "older"}'::jsonb
            else '{"receipt": "duplicate"}'::jsonb end);
    end loop;
    return to_jsonb(receipts);
end
$$;
