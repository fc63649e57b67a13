-- Describes the schema for comparison: {tables, columns, constraints, indexes, triggers, policies, functions,
-- comments}, each name -> definition. Takes {tables?: [name ...]}; all tables by default. Where Supabase's service_role
-- exists, public.turnlog belongs to it, and so does any other function that Supabase's API could take for it. The
-- comments are those that mark what is ours.
-- The result is the same on every version of PostgreSQL: not-null constraints, which have names since 18, are part of
-- their columns, and a function's text is a hash that doesn't depend on line ends.
create or replace function turnlog.catalogue(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    with ours as materialized (
        select c.oid, c.relname::text as name, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence
          from pg_catalog.pg_class as c
         where c.relnamespace = 'turnlog'::regnamespace and c.relkind in ('r', 'p')
           and (request -> 'tables' is null or request -> 'tables' ? c.relname)
    ), shape (kind, name, definition) as (
        select 'tables', o.name, jsonb_build_object(
                   'row_security', o.relrowsecurity, 'forced', o.relforcerowsecurity,
                   'logged', o.relpersistence = 'p')
          from ours as o
        union all
        select 'columns', o.name || '.' || a.attname, jsonb_build_object(
                   'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                   'not_null', a.attnotnull,
                   'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                   'generated', nullif(concat(a.attgenerated, a.attidentity), ''))
          from ours as o
          join pg_catalog.pg_attribute as a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
          left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        union all
        select 'constraints', o.name || '.' || k.conname, to_jsonb(concat(
                   pg_catalog.pg_get_constraintdef(k.oid),
                   (select ' INVALID INDEX' from pg_catalog.pg_index as i
                     where i.indexrelid = k.conindid and k.contype <> 'f' and not (i.indisvalid and i.indisready)),
                   (select ' DISABLED' where exists (
                        select from pg_catalog.pg_trigger as t where t.tgconstraint = k.oid and t.tgenabled in ('D', 'R')))))
          from ours as o
          join pg_catalog.pg_constraint as k on k.conrelid = o.oid and k.contype not in ('n', 't')
        union all
        select 'indexes', o.name || '.' || n.relname, to_jsonb(concat(
                   pg_catalog.pg_get_indexdef(i.indexrelid),
                   (select ' INVALID' where not (i.indisvalid and i.indisready))))
          from ours as o
          join pg_catalog.pg_index as i on i.indrelid = o.oid
          join pg_catalog.pg_class as n on n.oid = i.indexrelid
         where not exists (select from pg_catalog.pg_constraint as k
                            where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
        union all
        select 'triggers', o.name || '.' || t.tgname, to_jsonb('trigger: ' || pg_catalog.pg_get_triggerdef(t.oid))
          from ours as o
          join pg_catalog.pg_trigger as t on t.tgrelid = o.oid and not t.tgisinternal
        union all
        select 'triggers', o.name || '.' || r.rulename, to_jsonb('rule: ' || pg_catalog.pg_get_ruledef(r.oid))
          from ours as o
          join pg_catalog.pg_rewrite as r on r.ev_class = o.oid
        union all
        select 'policies', o.name || '.' || p.polname, to_jsonb(concat_ws(' ',
                   p.polcmd, array(select pg_catalog.pg_get_userbyid(r) from unnest(p.polroles) as r order by 1)::text,
                   pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)))
          from ours as o
          join pg_catalog.pg_policy as p on p.polrelid = o.oid
        union all
        select 'functions', p.oid::regprocedure::text, jsonb_build_object(
                   'arguments', pg_catalog.pg_get_function_arguments(p.oid),
                   'result', pg_catalog.pg_get_function_result(p.oid),
                   'traits', concat_ws(' ', l.lanname, 'kind ' || p.prokind::text, 'volatility ' || p.provolatile::text,
                       'parallel ' || p.proparallel::text, case when p.prosecdef then 'security definer' end,
                       case when p.proisstrict then 'strict' end),
                   'settings', array(
                       select lower(split_part(s, '=', 1)) || '=' || substr(s, strpos(s, '=') + 1)
                         from unnest(p.proconfig) as s order by 1),
                   'body', encode(sha256(convert_to(replace(p.prosrc, E'\r\n', E'\n'), 'UTF8')), 'hex'))
          from pg_catalog.pg_proc as p
          join pg_catalog.pg_language as l on l.oid = p.prolang
         where p.pronamespace = 'turnlog'::regnamespace
            or p.pronamespace = to_regnamespace('public') and p.proname = 'turnlog'
               and p.proargnames @> array['operation', 'request']
               and exists (select from pg_catalog.pg_roles where rolname = 'service_role')
        union all
        select 'comments', 'schema turnlog',
               to_jsonb(pg_catalog.obj_description('turnlog'::regnamespace, 'pg_namespace'))
        union all
        select 'comments', 'function public.turnlog(text, jsonb)',
               to_jsonb(pg_catalog.obj_description(to_regprocedure('public.turnlog(text, jsonb)'), 'pg_proc'))
         where exists (select from pg_catalog.pg_roles where rolname = 'service_role')
    )
    select jsonb_object_agg(kinds.kind, coalesce(
               (select jsonb_object_agg(s.name, s.definition) from shape as s where s.kind = kinds.kind), '{}'))
      from unnest(array['tables', 'columns', 'constraints', 'indexes', 'triggers', 'policies', 'functions', 'comments'])
           as kinds (kind)
$$;
