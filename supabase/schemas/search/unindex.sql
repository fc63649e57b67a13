-- What is gone is gone from here as well; what is left of its session is indexed anew.
create or replace function turnlog.unindex() returns trigger
language plpgsql volatile
set search_path = ''
as $$
declare
    cleared record;
begin
    for cleared in select distinct g.project, g.session_id from gone as g loop
        perform turnlog.queue_session(cleared.project, cleared.session_id);
    end loop;
    return null;
end
$$;
