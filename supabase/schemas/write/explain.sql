-- What writing a batch would do, as turnlog.write_v2 would say: it is written, and taken back.
create or replace function turnlog.explain(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    receipts jsonb;
begin
    begin
        receipts := turnlog.write_v2(batch);
        raise exception using errcode = 'TLXPL', message = 'only explained';
    exception when sqlstate 'TLXPL' then
        return receipts; -- a variable outlives what is rolled back
    end;
end
$$;
