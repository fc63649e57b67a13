-- Erases what some interactions of a session say from turnlog.ai_messages, also where later calls sent it again: their
-- histories have '[erased]' in its place from then on, and the same history sent again is still known by its id.
-- Of an interaction's messages these are its own: its response, and of its prompt those behind the longest history that
-- another interaction ends with, or the last message that one says whose texts aren't stored there. Instructions (system,
-- developer) stay: they are the conversation's. Histories that no other interaction has, such as a context, or an answer
-- that grew after all, are erased whole.
create or replace function turnlog.blank_messages(in_project text, of_session uuid, ids uuid[]) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- one session's rows, never a whole table, whatever its statistics say
as $$
declare
    interactions turnlog.ai_interactions[];
    interaction turnlog.ai_interactions;
    ends uuid[];            -- histories that other interactions' prompts and responses end with
    end_counts bigint[];    -- the numbers of their messages
    reached uuid[];         -- histories that other interactions have
    prompt jsonb;
    said jsonb;             -- the history that it ends
    count bigint;           -- of its messages that are left to be looked at
    covered uuid[] := '{}'; -- histories whose messages were looked at
    others jsonb[];         -- what other interactions say whose texts aren't stored by content
    shared bigint;          -- how many of them an earlier history has that another interaction ends with
    own jsonb[] := '{}';    -- the interactions' own messages
    revised jsonb;
    split record;
    changed record;
begin
    if not exists (select from turnlog.ai_messages as m where m.project = in_project and m.session_id = of_session) then
        return;
    end if;
    -- lookups by primary key: a join reads the whole session for each row where statistics are old
    for split in -- a prompt that shares a row with its response gets one of its own
        select distinct i.prompt_end, i.response_end
          from turnlog.ai_interactions as i
          left join lateral (
               select true as is_stored from turnlog.ai_messages as m
                where m.project = in_project and m.session_id = of_session and m.id = i.prompt_end
               offset 0) as p on true
         where i.project = in_project and i.session_id = of_session and i.response_end is not null and p.is_stored is null
    loop
        insert into turnlog.ai_messages (project, session_id, id, after, count, bytes, messages)
        select m.project, m.session_id, split.prompt_end, m.after, m.count - 1, m.bytes, m.messages - -1
          from turnlog.ai_messages as m
         where m.project = in_project and m.session_id = of_session and m.id = split.response_end
            on conflict do nothing; -- another answer to the same prompt
        update turnlog.ai_messages as m
           set after = split.prompt_end, messages = jsonb_build_array(m.messages -> -1)
         where m.project = in_project and m.session_id = of_session and m.id = split.response_end;
    end loop;
    interactions := array( -- the longest histories first: others are mostly a part of them
        select i from turnlog.ai_interactions as i
          left join lateral (
               select m.count from turnlog.ai_messages as m
                where m.project = in_project and m.session_id = of_session and m.id = i.prompt_end
               offset 0) as m on true
         where i.project = in_project and i.session_id = of_session and i.id = any (ids) and i.erased_at is null
         order by m.count desc nulls last);
    select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.count), '{}')
      into ends, end_counts
      from turnlog.ai_interactions as i
     cross join lateral (values (i.prompt_end), (i.response_end)) as e (id)
     cross join lateral (
           select m.id, m.count from turnlog.ai_messages as m
            where m.project = in_project and m.session_id = of_session and m.id = e.id
           offset 0) as m
     where i.project = in_project and i.session_id = of_session and i.id <> all (ids);
    others := array(
        select coalesce(m.value -> 'content', said.content)
          from turnlog.ai_interactions as i
         cross join lateral (values (i.prompt), (i.response)) as said (content)
          left join lateral jsonb_array_elements(
                   case jsonb_typeof(said.content) when 'array' then said.content end) as m on true
         where i.project = in_project and i.session_id = of_session and i.id <> all (ids) and i.erased_at is null
           and jsonb_typeof(said.content) in ('string', 'array'));

    foreach interaction in array interactions loop
        if (interaction.response_end = any (ends || covered)) is not true then
            own := own || array(select jsonb_array_elements(turnlog.as_messages(turnlog.content(
                interaction.response, in_project, of_session, interaction.response_end, interaction.prompt_end))));
        end if;
        continue when interaction.prompt_end = any (covered);
        prompt := coalesce(turnlog.as_messages(turnlog.content(
            interaction.prompt, in_project, of_session, interaction.prompt_end, interaction.context_end), 'user'), '[]');
        said := turnlog.messages(in_project, of_session, interaction.prompt_end);
        with recursive path as (
            select m.id, m.after, m.count
              from turnlog.ai_messages as m
             where m.project = in_project and m.session_id = of_session and m.id = interaction.prompt_end
            union all
            select m.id, m.after, m.count
              from path as p
             cross join lateral (
                   select m.id, m.after, m.count from turnlog.ai_messages as m
                    where m.project = in_project and m.session_id = of_session and m.id = p.after
                   offset 0) as m
             where p.id <> all (ends)
        )
        select max(p.count), coalesce(max(p.count) filter (where p.id = any (ends)), 0),
               covered || coalesce(array_agg(p.id), '{}')
          into count, shared, covered
          from path as p;
        for n in reverse jsonb_array_length(prompt) - 1 .. 0 loop
            exit when count <= shared
                   or n < jsonb_array_length(prompt) - 1 and prompt -> n -> 'content' = any (others)
                   or case when count = any (end_counts) then turnlog.history_id(turnlog.message_bytes(
                          jsonb_path_query_array(said, '$[0 to $last]', jsonb_build_object('last', count - 1)))) = any (ends) end;
            own := array_append(own, prompt -> n);
            count := count - 1;
        end loop;
    end loop;
    for revised in
        select r.facts from turnlog.ai_revisions as r
         where r.project = in_project and r.session_id = of_session and r.interaction_id = any (ids)
    loop
        own := own || array(select jsonb_array_elements(turnlog.as_messages(revised -> 'response')));
        prompt := coalesce(turnlog.as_messages(revised -> 'prompt', 'user'), '[]');
        for n in reverse jsonb_array_length(prompt) - 1 .. 0 loop
            exit when prompt -> n ->> 'role' = 'assistant'; -- before it is history
            own := array_append(own, prompt -> n);
        end loop;
    end loop;

    reached := array(
        with recursive reached as (
            select e.id
              from turnlog.ai_interactions as i
             cross join lateral (values (i.instructions), (i.context_end), (i.prompt_end), (i.response_end)) as e (id)
             where i.project = in_project and i.session_id = of_session and i.id <> all (ids) and e.id is not null
            union
            select m.after
              from reached as r
             cross join lateral (
                   select m.after from turnlog.ai_messages as m
                    where m.project = in_project and m.session_id = of_session and m.id = r.id
                   offset 0) as m
             where m.after is not null
        )
        select r.id from reached as r);
    for changed in
        select b.id, b.messages
          from (select m.id, m.messages as stored, (
                       select jsonb_agg(case
                                  when not is_reached
                                       or (e.message ->> 'role' in ('system', 'developer')) is not true
                                          and (e.n < jsonb_array_length(m.messages) or not is_end)
                                          and (e.message in (select unnest(own))
                                               or (e.message -> 'role', e.message -> 'content') in (
                                                  select o.message -> 'role', o.message -> 'content'
                                                    from unnest(own) as o (message)
                                                   where o.message -> 'content' not in ('null', '""', '[]')))
                                  then jsonb_build_object('role', e.message -> 'role', 'content', '[erased]')
                                  else e.message end order by e.n)
                         from jsonb_array_elements(m.messages) with ordinality as e (message, n)) as messages
                  from (select m.id, m.messages, m.id in (select unnest(reached)) as is_reached,
                               m.id in (select unnest(ends)) as is_end
                          from turnlog.ai_messages as m
                         where m.project = in_project and m.session_id = of_session
                        offset 0) as m
                offset 0) as b
         where b.messages <> b.stored
    loop
        update turnlog.ai_messages as m
           set messages = changed.messages
         where m.project = in_project and m.session_id = of_session and m.id = changed.id;
    end loop;
    update turnlog.ai_revisions as r
       set facts = jsonb_set(r.facts, '{prompt}', (
           select jsonb_agg(case when e.message in (select unnest(own))
                                 then jsonb_build_object('role', e.message -> 'role', 'content', '[erased]')
                                 else e.message end order by e.n)
             from jsonb_array_elements(r.facts -> 'prompt') with ordinality as e (message, n)))
     where r.project = in_project and r.session_id = of_session and r.interaction_id <> all (ids)
       and r.facts @? '$.prompt[1]';
end
$$;
