-- Only the service has access: row-level security is on without policies, and all rights are revoked. On Supabase the
-- service is service_role; elsewhere it is the role that owns these tables.
do $$
declare
    object text;
    has_service_role constant boolean := exists (select from pg_catalog.pg_roles where rolname = 'service_role');
    others constant text := (
        select concat_ws(', ', 'public', string_agg(quote_ident(r.rolname), ', '))
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated'));
begin
    execute format('revoke all on schema turnlog from %s', others);
    if has_service_role then
        grant usage on schema turnlog to service_role;
    end if;
    for object in
        select c.oid::regclass::text
          from pg_catalog.pg_class as c
         where c.relnamespace = 'turnlog'::regnamespace and c.relkind in ('r', 'p')
    loop
        execute format('alter table %s enable row level security', object);
        execute format('revoke all on table %s from %s', object, others);
        if has_service_role then
            execute format('grant select, insert, update, delete on table %s to service_role', object);
        end if;
    end loop;
    for object in
        select p.oid::regprocedure::text
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'turnlog'::regnamespace
    loop
        execute format('revoke all on function %s from %s', object, others);
        if has_service_role then
            execute format('grant execute on function %s to service_role', object);
        end if;
    end loop;
end
$$;
