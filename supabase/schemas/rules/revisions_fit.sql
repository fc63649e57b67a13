-- Whether an interaction may keep what isn't shown of it ([{facts, said_at}]): it has room below 100 revisions, or one of
-- them already is, or becomes, what is to be kept.
create or replace function turnlog.revisions_fit(stored jsonb, lost jsonb) returns boolean
language sql stable
set search_path = ''
as $$
    with kept as materialized (
        select r.facts
          from turnlog.ai_revisions as r
         where r.project = stored ->> 'project' and r.session_id = (stored ->> 'session_id')::uuid
           and r.interaction_id = (stored ->> 'id')::uuid
    )
    select (select count(*) from kept) + jsonb_array_length(lost) <= 100
        or not exists (
               select from jsonb_array_elements(lost) as l
                where not exists (select from kept as k
                                   where turnlog.is_contained(l -> 'facts', k.facts)
                                      or turnlog.is_contained(k.facts, l -> 'facts')))
$$;
