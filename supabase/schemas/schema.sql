-- Everything of Turnlog's is in the schema `turnlog`, so it installs beside whatever a database has. The comment marks
-- the schema as ours: a schema of that name without it that isn't empty belongs to others and is left alone.
do $$
declare
    mark constant text := 'Turnlog, the AI conversation log. Its migrations make what is in here.';
    existing constant oid := pg_catalog.to_regnamespace('turnlog');
begin
    if existing is null and not pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create') then
        raise exception using
            errcode = '42501',
            message = pg_catalog.format('The role %s may not create a schema in this database', current_user),
            hint = pg_catalog.format('Have the owner of the database run: create schema turnlog authorization %I;',
                                     current_user);
    elsif existing is null then
        create schema turnlog;
    elsif pg_catalog.obj_description(existing, 'pg_namespace') is distinct from mark and exists (
        select from pg_catalog.pg_depend as d
         where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = existing and d.deptype = 'n')
    then
        raise exception using
            errcode = '42P06',
            message = 'The schema "turnlog" of this database is not marked as Turnlog''s',
            detail = 'It holds ' || (
                select pg_catalog.string_agg(o.name, ', ' order by o.name)
                  from (select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) as name
                          from pg_catalog.pg_depend as d
                         where d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = existing
                           and d.deptype = 'n'
                         order by 1 limit 5) as o),
            hint = case
                when pg_catalog.to_regprocedure('turnlog.ping(jsonb)') is null
                    then 'Rename it (alter schema turnlog rename to …), or give Turnlog a database of its own.'
                else pg_catalog.format('If this is Turnlog''s, restored without its comments, mark it: '
                                       'comment on schema turnlog is %L;', mark)
            end;
    end if;
    if pg_catalog.obj_description(pg_catalog.to_regnamespace('turnlog'), 'pg_namespace') is distinct from mark then
        execute pg_catalog.format('comment on schema turnlog is %L', mark);
    end if;
end
$$;
