-- What writing a batch would do, as turnlog.write would say: it is written, and taken back.
create or replace function turnlog.dry_run(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    receipts jsonb;
begin
    begin
        receipts := turnlog.write(batch);
        raise exception using errcode = 'TLDRY', message = 'only a dry run';
    exception when sqlstate 'TLDRY' then
        return receipts; -- a variable outlives what is rolled back
    end;
end
$$;
