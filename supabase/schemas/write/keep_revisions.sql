-- Keeps what isn't shown of an interaction: [{facts, said_at}], as turnlog.interaction_rule returns it. What a kept
-- revision contains isn't kept again; one that goes on where kept ones end replaces them. `shown`: what is shown now, from
-- which revisions are removed, or null. Returns how many are new.
create or replace function turnlog.keep_revisions(
    in_project text, in_session uuid, in_interaction uuid, lost jsonb, shown jsonb, received_at timestamptz)
returns integer
language plpgsql volatile
set search_path = ''
as $$
declare
    one record;
    kept turnlog.ai_revisions;
    created integer := 0;
begin
    for one in select l.facts, l.said_at from jsonb_to_recordset(lost) as l (facts jsonb, said_at timestamptz) loop
        select r.* into kept
          from turnlog.ai_revisions as r
         where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction
           and (turnlog.is_contained(one.facts, r.facts) or turnlog.is_contained(r.facts, one.facts))
         order by turnlog.is_contained(one.facts, r.facts) desc, r.said_at, r.id
         limit 1;
        if not found then
            insert into turnlog.ai_revisions (project, session_id, interaction_id, facts, said_at, created_at)
            values (in_project, in_session, in_interaction, one.facts, one.said_at, received_at)
            returning * into kept;
            created := created + 1;
        elsif not turnlog.is_contained(one.facts, kept.facts) or turnlog.is_contained(kept.facts, one.facts) and one.said_at > kept.said_at then
            created := created + (not turnlog.is_contained(one.facts, kept.facts))::integer;
            update turnlog.ai_revisions as r
               set facts = kept.facts || one.facts, said_at = greatest(kept.said_at, one.said_at)
             where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction and r.id = kept.id
            returning * into kept;
        end if;
        delete from turnlog.ai_revisions as r
         where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction
           and r.id <> kept.id and turnlog.is_contained(r.facts, kept.facts);
    end loop;
    delete from turnlog.ai_revisions as r
     where r.project = in_project and r.session_id = in_session and r.interaction_id = in_interaction
       and turnlog.is_contained(r.facts, turnlog.statement(shown));
    return created;
end
$$;
