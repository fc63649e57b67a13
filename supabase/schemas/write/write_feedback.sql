-- Writes the feedback of a batch below sessions that it has locked. Returns the receipts in order.
--
-- One row is stored per author, interaction and name: the one with the latest `given_at`; of equal times the one that
-- takes back, else the one whose value, then whose comment, is the greater text. So any order, repetition and delay
-- leave the same row. Feedback without an interaction is feedback on the session; without a value, it takes back. The
-- receipt is `filled` if the feedback replaced another one, with the fields that changed; `duplicate` if it is stored
-- already, or, with the reason `older`, if a later one is.
create or replace function turnlog.write_feedback(in_project text, rows jsonb, rejected jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    incoming record;
    stored turnlog.ai_feedback;
    is_newer boolean;
    fields text[];
    receipts jsonb[] := '{}';
begin
    for incoming in
        select f.*
          from jsonb_to_recordset(rows -> 'feedback') as f (
               session_id uuid, interaction_id uuid, author text, name text, value jsonb, comment text,
               given_at timestamptz, created_at timestamptz)
    loop
        if rejected ? incoming.session_id::text then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', rejected -> incoming.session_id::text));
            continue;
        end if;

        incoming.interaction_id := coalesce(incoming.interaction_id, '00000000-0000-0000-0000-000000000000');
        if exists (select from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = incoming.session_id
                      and i.id = incoming.interaction_id and i.erased_at is not null) then
            receipts := array_append(receipts, jsonb_build_object(
                'receipt', 'rejected', 'reason', 'erased', 'fields', array['interaction_id']));
            continue;
        end if;
        incoming.author := coalesce(incoming.author, '');
        incoming.created_at := coalesce(incoming.created_at, statement_timestamp());
        incoming.given_at := coalesce(incoming.given_at, incoming.created_at);
        -- a comment that was given before the texts expired doesn't come back
        if incoming.comment is not null and incoming.given_at <= (
               select s.text_expired_at from turnlog.ai_sessions as s
                where s.project = in_project and s.id = incoming.session_id) then
            incoming.comment := null;
        end if;
        insert into turnlog.ai_feedback
               (project, session_id, interaction_id, author, name, value, comment, given_at, created_at)
        values (in_project, incoming.session_id, incoming.interaction_id, incoming.author, incoming.name, incoming.value,
                incoming.comment, incoming.given_at, incoming.created_at)
            on conflict do nothing;
        if found then
            receipts := array_append(receipts, '{"receipt": "created"}'::jsonb);
            continue;
        end if;

        select f.* into stored
          from turnlog.ai_feedback as f
         where f.project = in_project and f.session_id = incoming.session_id
           and f.interaction_id = incoming.interaction_id and f.author = incoming.author and f.name = incoming.name;
        is_newer := (incoming.given_at, incoming.value is null, coalesce(incoming.value::text, '') collate "C",
                     coalesce(incoming.comment, '') collate "C")
                  > (stored.given_at, stored.value is null, coalesce(stored.value::text, '') collate "C",
                     coalesce(stored.comment, '') collate "C");
        fields := array_remove(array[
            case when is_newer and incoming.value is distinct from stored.value then 'value' end,
            case when is_newer and incoming.comment is distinct from stored.comment then 'comment' end], null);
        if is_newer then
            update turnlog.ai_feedback as f
               set value = incoming.value, comment = incoming.comment, given_at = incoming.given_at,
                   created_at = least(stored.created_at, incoming.created_at)
             where f.project = in_project and f.session_id = incoming.session_id
               and f.interaction_id = incoming.interaction_id and f.author = incoming.author and f.name = incoming.name;
        elsif incoming.created_at < stored.created_at then
            update turnlog.ai_feedback as f
               set created_at = incoming.created_at
             where f.project = in_project and f.session_id = incoming.session_id
               and f.interaction_id = incoming.interaction_id and f.author = incoming.author and f.name = incoming.name;
        end if;
        receipts := array_append(receipts, case
            when fields <> '{}' then jsonb_build_object('receipt', 'filled', 'fields', fields)
            when not is_newer and (incoming.value is distinct from stored.value or incoming.comment is distinct from stored.comment)
                then '{"receipt": "duplicate", "reason": "older"}'::jsonb
            else '{"receipt": "duplicate"}'::jsonb end);
    end loop;
    return to_jsonb(receipts);
end
$$;
