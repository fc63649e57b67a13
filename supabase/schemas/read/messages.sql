-- Returns the messages of a history of a session, in order: of `last` without those of `before`, an earlier one, and at
-- most the `most` last ones. A prompt may share a row with its response, see turnlog.add_messages: where `last` isn't
-- stored, it is all of `answered` but its last message; where `before` isn't, only that message is left.
create or replace function turnlog.messages(
    in_project text, in_session uuid, last uuid, before uuid default null, answered uuid default null,
    most integer default null)
returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some rows of a session, never a whole table, whatever its statistics say
as $$
declare
    finish bigint;          -- how many messages the history has
    left_out bigint := 0;   -- from the beginning
begin
    select m.count into finish
      from turnlog.ai_messages as m
     where m.project = in_project and m.session_id = in_session and m.id = last;
    if not found then
        select m.count - 1 into finish
          from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = in_session and m.id = answered;
        last := answered;
    end if;
    if before is not null then
        select m.count into left_out
          from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = in_session and m.id = before;
        if not found then
            left_out := finish - 1;
        end if;
    end if;
    left_out := greatest(left_out, finish - most);
    return (
        with recursive said as ( -- `start`: counted once each, since every look at a long list decompresses it
            select m.after, m.count, m.messages, m.count - jsonb_array_length(m.messages) as start
              from turnlog.ai_messages as m
             where m.project = in_project and m.session_id = in_session and m.id = last
            union all
            select m.after, m.count, m.messages, m.start
              from said as s
             cross join lateral ( -- one lookup by primary key: a join reads the whole session where statistics are old
                   select m.after, m.count, m.messages, m.count - jsonb_array_length(m.messages) as start
                     from turnlog.ai_messages as m
                    where m.project = in_project and m.session_id = in_session and m.id = s.after
                   offset 0) as m
             where s.start > left_out
        )
        select coalesce(jsonb_agg(e.message order by s.count, e.n), '[]')
          from said as s
         cross join lateral jsonb_array_elements(s.messages) with ordinality as e (message, n)
         where s.start + e.n > left_out and s.start + e.n <= finish);
end
$$;
