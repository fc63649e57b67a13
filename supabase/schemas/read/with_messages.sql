-- Returns interactions of a session, [{prompt, response, question?, ...}], with their contents as they were sent: see
-- turnlog.by_content. Those whose messages are stored by content have `ends`: [instructions, context_end, prompt_end,
-- response_end], and so has a `question`.
-- `context`: each gets what was sent before its prompt. It isn't part of the query that reads the interactions, since
-- that query couldn't be sent to the machine that has the project.
create or replace function turnlog.with_messages(in_project text, in_session uuid, interactions jsonb, with_context boolean)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    if not interactions @? '$[*].ends' and not interactions @? '$[*].question.ends' then
        return interactions;
    end if;
    return (
        select jsonb_agg((i.value - 'ends'::text)
               || case when i.value ? 'ends' then jsonb_build_object(
                   'prompt', turnlog.content(
                       nullif(i.value -> 'prompt', 'null'), in_project, in_session, (i.value #>> '{ends,2}')::uuid,
                       (i.value #>> '{ends,1}')::uuid, (i.value #>> '{ends,3}')::uuid,
                       case when i.value -> 'context' = 'null' then (i.value #>> '{ends,0}')::uuid end),
                   'response', turnlog.content(
                       nullif(i.value -> 'response', 'null'), in_project, in_session, (i.value #>> '{ends,3}')::uuid,
                       (i.value #>> '{ends,2}')::uuid),
                   'context', case when with_context and i.value -> 'context' <> 'null' then turnlog.content(
                       i.value -> 'context', in_project, in_session, (i.value #>> '{ends,1}')::uuid, null, null,
                       (i.value #>> '{ends,0}')::uuid) end) else '{}' end
               || case when i.value -> 'question' ? 'ends' then jsonb_build_object(
                   'question', (i.value -> 'question') - 'ends'::text || jsonb_build_object('prompt', turnlog.content(
                       i.value #> '{question,prompt}', in_project, in_session, (i.value #>> '{question,ends,2}')::uuid,
                       (i.value #>> '{question,ends,1}')::uuid, (i.value #>> '{question,ends,3}')::uuid,
                       (i.value #>> '{question,ends,0}')::uuid))) else '{}' end
               order by i.n)
          from jsonb_array_elements(interactions) with ordinality as i (value, n));
end
$$;
