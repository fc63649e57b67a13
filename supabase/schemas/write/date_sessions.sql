-- Moves sessions to an earlier turn: `earliest_turn_at` of each becomes its time in `times`, unless it is earlier
-- already. The earlier of two is the same in any order. The caller holds the sessions' locks.
create or replace function turnlog.date_sessions(in_project text, ids uuid[], times timestamptz[]) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    one record;
begin
    -- one update each: a join would be planned by statistics, see turnlog.fill_stored
    for one in select t.id, min(t.at) as at from unnest(ids, times) as t (id, at) group by t.id loop
        update turnlog.ai_sessions as s
           set earliest_turn_at = one.at
         where s.project = in_project and s.id = one.id
           and (s.earliest_turn_at is null or s.earliest_turn_at > one.at);
    end loop;
end
$$;
