-- Stores messages, those from `start` to before `finish` of a list, as the history `new_id`, unless the session has it.
-- They go on from the history `base`. Without one they are whole, and those of the longest stored history by which they
-- begin are left out. The longest are looked for first, since a call usually adds an answer and a question to what the one
-- before it sent. That takes `beginning`, the bytes from `start` to the end of the list. `with_answer`: the last message is
-- an answer, and the history before it isn't stored.
create or replace function turnlog.add_history(
    in_project text, in_session uuid, new_id uuid, messages jsonb, start integer, finish integer,
    beginning bytea default null, base uuid default null, with_answer boolean default false)
returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    -- how many messages are looked for as new: many of a short history, a few of one with large ones
    most_new constant integer := greatest(8, 4000000 / greatest(1, octet_length(beginning)));
    known record;
    added jsonb;
begin
    if exists (select from turnlog.ai_messages as m
                where m.project = in_project and m.session_id = in_session and m.id = new_id) then
        return;
    end if;
    if beginning is not null then
        for n in reverse jsonb_array_length(messages) - 1 .. greatest(start + 1, finish - most_new) loop
            beginning := substr(beginning, 1, octet_length(beginning)
                                              - octet_length(turnlog.message_bytes(jsonb_build_array(messages -> n))) - 2);
            continue when n >= finish or with_answer and n = finish - 1;
            select m.id into base
              from turnlog.ai_messages as m
             where m.project = in_project and m.session_id = in_session and m.id = turnlog.history_id(beginning);
            if found then
                start := n;
                exit;
            end if;
        end loop;
    end if;
    select m.count, m.bytes into known
      from turnlog.ai_messages as m
     where m.project = in_project and m.session_id = in_session and m.id = base;
    added := case when start = 0 and finish = jsonb_array_length(messages) then messages
        else jsonb_path_query_array(
            messages, '$[$start to $last]', jsonb_build_object('start', start, 'last', finish - 1)) end;
    insert into turnlog.ai_messages (project, session_id, id, after, count, bytes, messages)
    values (in_project, in_session, new_id, base, coalesce(known.count, 0) + finish - start,
            coalesce(known.bytes, 0) + octet_length(added::text), added);
end
$$;
