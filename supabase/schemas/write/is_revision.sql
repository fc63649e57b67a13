-- Whether what contradicts a stored interaction is kept as one of its revisions: a retry of what was said before.
create or replace function turnlog.is_revision(
    in_project text, in_session uuid, in_interaction uuid, incoming jsonb, contradicting text[])
returns boolean
language plpgsql stable
set search_path = ''
as $$
declare
    contradiction constant jsonb := (select jsonb_object_agg(c.name, incoming -> c.name) from unnest(contradicting) as c (name));
begin
    return exists (
        select from turnlog.ai_revisions as r
         where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction
           and turnlog.is_contained(contradiction, r.facts));
end
$$;
