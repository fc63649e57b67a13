-- Deletes records of reads from before a time, up to `limit` a call; call it again while `left`.
-- Takes {project, before, limit, dry_run?}. Returns {reads, left}. A dry run counts all.
create or replace function turnlog.expire_reads(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the oldest rows by their index, whatever the table's statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    before constant timestamptz := request ->> 'before';
    most constant integer := request ->> 'limit';
    affected bigint;
begin
    if coalesce((request ->> 'dry_run')::boolean, false) then
        return jsonb_build_object('left', false, 'reads', (
            select count(*) from turnlog.ai_reads as r where r.project = in_project and r.at < before));
    end if;
    delete from turnlog.ai_reads as r
     where r.project = in_project and r.id = any (array(
           select d.id from turnlog.ai_reads as d where d.project = in_project and d.at < before order by d.at limit most));
    get diagnostics affected = row_count;
    return jsonb_build_object('reads', affected, 'left', affected = most);
end
$$;
