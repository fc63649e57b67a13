-- Returns the receipts that turnlog.write would return for a batch: it writes the batch and rolls it back.
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
        return receipts; -- variables survive the rollback
    end;
end
$$;
