-- Removes a user from the records of reads, up to `most` of them: the calls that the user made, those that asked for the
-- user, and some of the user's sessions among those that calls showed. Returns how many records it found.
create or replace function turnlog.erase_reads(in_project text, of_user text, ids uuid[], most integer) returns bigint
language plpgsql volatile
set search_path = ''
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
declare
    found constant uuid[] := array(
        select r.id from turnlog.ai_reads as r where r.project = in_project and r.session_ids && ids limit most);
    affected bigint;
begin
    delete from turnlog.ai_reads as r
     where r.project = in_project and r.id = any (found) and r.session_ids <@ ids;
    -- what showed other sessions, too, is still about them
    update turnlog.ai_reads as r
       set session_ids = array(select s.id from unnest(r.session_ids) as s (id) where s.id <> all (ids))
     where r.project = in_project and r.id = any (found);
    delete from turnlog.ai_reads as r
     where r.project = in_project and r.id = any (array(
           (select d.id from turnlog.ai_reads as d where d.project = in_project and d.user_id = of_user limit most)
           union all
           (select d.id from turnlog.ai_reads as d where d.project = in_project and d.reader = of_user limit most)));
    get diagnostics affected = row_count;
    return affected + cardinality(found);
end
$$;
