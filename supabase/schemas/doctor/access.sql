-- Reports who may use these tables and Turnlog's functions, public.turnlog among them. Takes {tables: [name ...]}.
-- Returns caller: {name, is_owner, is_superuser, bypasses_rls}; roles: Supabase's roles that exist, with their
-- attributes; granted: rights of others than the owner, service_role and the caller; reached: what anon and
-- authenticated can do, however they come by it; lacking: rights that service_role or the caller need and don't have.
create or replace function turnlog.access(request jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
    with objects as materialized (
        select 'table' as kind, c.oid, c.oid::regclass::text as name, c.relowner as owner, c.relacl as rights,
               array['SELECT', 'INSERT', 'UPDATE', 'DELETE'] as needed,
               array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] as possible
          from pg_catalog.pg_class as c
         where c.relnamespace = 'turnlog'::regnamespace and request -> 'tables' ? c.relname
        union all
        select 'function', p.oid, p.oid::regprocedure::text, p.proowner,
               coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), array['EXECUTE'], array['EXECUTE']
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'turnlog'::regnamespace
            or p.oid = to_regprocedure('public.turnlog(text, jsonb)')
               and exists (select from pg_catalog.pg_roles where rolname = 'service_role')
    ), grants as materialized (
        select o.kind, o.name, o.owner, null as column, e.grantee, e.privilege_type
          from objects as o
         cross join pg_catalog.aclexplode(o.rights) as e
        union all
        select o.kind, o.name, o.owner, a.attname, e.grantee, e.privilege_type
          from objects as o
          join pg_catalog.pg_attribute as a on a.attrelid = o.oid and o.kind = 'table'
         cross join pg_catalog.aclexplode(a.attacl) as e
    ), roles as materialized (
        select r.oid, r.rolname as name, r.rolsuper, r.rolbypassrls
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated', 'service_role')
    ), abilities as materialized (
        select r.name as role, o.kind, o.name, p.privilege, p.privilege = any (o.needed) as needed,
               case when o.kind = 'function' then pg_catalog.has_function_privilege(r.oid, o.oid, p.privilege)
                    when p.privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                        then pg_catalog.has_table_privilege(r.oid, o.oid, p.privilege)
                             or r.name in ('anon', 'authenticated')
                                and pg_catalog.has_any_column_privilege(r.oid, o.oid, p.privilege)
                    else pg_catalog.has_table_privilege(r.oid, o.oid, p.privilege) end as has
          from (select oid, name from roles
                union
                select oid, rolname from pg_catalog.pg_roles where rolname = current_user) as r
         cross join objects as o
         cross join unnest(o.possible) as p (privilege)
    )
    select jsonb_build_object(
        'caller', (
            select jsonb_build_object(
                       'name', r.rolname, 'is_superuser', r.rolsuper, 'bypasses_rls', r.rolbypassrls,
                       'is_owner', (select coalesce(bool_and(pg_catalog.pg_has_role(r.oid, o.owner, 'usage')), true)
                                      from objects as o))
              from pg_catalog.pg_roles as r
             where r.rolname = current_user),
        'roles', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', r.name, 'is_superuser', r.rolsuper, 'bypasses_rls', r.rolbypassrls,
                       'lacks_schemas', array(
                           select n.nspname
                             from pg_catalog.pg_namespace as n
                            where n.nspname in ('public', 'turnlog')
                              and not pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage')
                            order by n.nspname),
                       'member_of', array(select pg_catalog.pg_get_userbyid(m.roleid) from pg_catalog.pg_auth_members as m
                                           where m.member = r.oid order by 1))
                       order by r.name), '[]')
              from roles as r),
        'granted', (
            select coalesce(jsonb_agg(to_jsonb(g) order by g.name, g.role), '[]')
              from (select g.kind, g.name, g.column, coalesce(r.rolname, 'public') as role,
                           array_agg(distinct g.privilege_type order by g.privilege_type) as privileges
                      from grants as g
                      left join pg_catalog.pg_roles as r on r.oid = g.grantee
                     where g.grantee = 0
                        or r.rolname not in ('service_role', current_user)
                           and not r.rolsuper and not pg_catalog.pg_has_role(r.oid, g.owner, 'member')
                     group by g.kind, g.name, g.column, r.rolname) as g),
        'reached', (
            select coalesce(jsonb_agg(to_jsonb(a) order by a.name, a.role), '[]')
              from (select a.kind, a.name, a.role, array_agg(a.privilege order by a.privilege) as privileges
                      from abilities as a
                     where a.has and a.role in ('anon', 'authenticated')
                     group by a.kind, a.name, a.role) as a),
        'lacking', (
            select coalesce(jsonb_agg(to_jsonb(a) order by a.name, a.role), '[]')
              from (select a.kind, a.name, a.role, array_agg(a.privilege order by a.privilege) as privileges
                      from abilities as a
                     where a.needed and not a.has and (a.role = 'service_role' or a.role = current_user)
                     group by a.kind, a.name, a.role) as a))
$$;
