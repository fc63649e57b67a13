-- Counts sessions up to 10,000; with filters on their interactions, only among the newest 5,000.
-- Takes {project} and the filters of turnlog.sessions. Returns {sessions, complete: false if there may be more}.
create or replace function turnlog.count_sessions(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
    most constant integer := 10000;
    filters constant record := turnlog.session_filters(request);
    enough constant integer := case when filters.further = '' then most + 1 when filters.looks then 5000 else 30000 end;
    candidates constant uuid[] := case when filters.further <> '' then turnlog.session_candidates(request, null, 2000) end;
    counted bigint;
    looked bigint;
begin
    if candidates is not null then
        execute 'select count(*) from turnlog.ai_sessions as s where s.id = any ($2) and ' || filters.walked || filters.further
           into counted using request, candidates;
        return jsonb_build_object('sessions', counted, 'complete', true);
    end if;
    execute 'select count(*) filter (where true' || filters.further || '), count(*) from ('
            'select s.* from turnlog.ai_sessions as s where ' || filters.walked
            || case when filters.further = '' then '' else
               ' order by coalesce(s.started_at, s.earliest_turn_at, s.created_at) desc, s.id desc' end || ' limit $2) as s'
       into counted, looked using request, enough;
    return jsonb_build_object('sessions', least(counted, most), 'complete', looked < enough and counted <= most);
end
$$;
