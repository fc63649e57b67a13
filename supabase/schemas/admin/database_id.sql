-- Returns which database this is, as `<log>-<place>`. A service's spool belongs to one: see turnlog.write.
--
-- The log is named once, by its first migration, and a copy has the same name. The place is the server's own identifier
-- and the database's number in it: another address of this database, a pooler or a promoted standby leave both as they
-- are, and rows that were copied into another database are in another place. A copy of the server's files is not.
create or replace function turnlog.database_id() returns text
language plpgsql stable
set search_path = ''
as $$
declare
    server text;
begin
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then -- everybody may, unless it was revoked
        select c.system_identifier::text into server from pg_catalog.pg_control_system() as c;
    end if;
    return (
        select left(replace(m.database_id::text, '-', ''), 16) || '-' || left(md5(concat(server, '.', d.oid)), 8)
          from turnlog.migrations as m, pg_catalog.pg_database as d
         where d.datname = current_database()
         order by m.version
         limit 1);
end
$$;
