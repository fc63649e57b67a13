-- Examining a database and mending what is not as it should be: see `flask doctor` and `flask repair`.
--
-- All of it only reads, but for turnlog_mend_table_v1.

create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121000500',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
$$;


-- {tables?: [name ...]} -> the shape of these tables of the schema public (of all there are, if none are named) and of
-- Turnlog's functions: {tables, columns, constraints, indexes, triggers, policies, functions}, each name -> definition.
-- The same on every version of PostgreSQL: not-null constraints, which have names of their own since 18, are told
-- with their columns, and a function's text is a hash that line ends don't change.
create or replace function public.turnlog_catalogue_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    with ours as materialized (
        select c.oid, c.relname as name, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence
          from pg_catalog.pg_class as c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
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
         where p.pronamespace = 'public'::regnamespace and p.proname like 'turnlog\_%'
    )
    select jsonb_object_agg(kinds.kind, coalesce(
               (select jsonb_object_agg(s.name, s.definition) from shape as s where s.kind = kinds.kind), '{}'))
      from unnest(array['tables', 'columns', 'constraints', 'indexes', 'triggers', 'policies', 'functions'])
           as kinds (kind)
$$;


-- {tables: [name ...]} -> who may do what with these tables and Turnlog's functions:
-- caller: {name, is_owner, is_superuser, bypasses_rls}; roles: those of Supabase that are there, with what they are;
-- granted: rights that were given to others than the owner, service_role and the caller; reached: what anon and
-- authenticated can do, however they come by it; lacking: what service_role and the caller can't do, and need.
create or replace function public.turnlog_access_v1(request jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
    with objects as materialized (
        select 'table' as kind, c.oid, c.oid::regclass::text as name, c.relowner as owner, c.relacl as rights,
               array['SELECT', 'INSERT', 'UPDATE', 'DELETE'] as needed,
               array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] as possible
          from pg_catalog.pg_class as c
         where c.relnamespace = 'public'::regnamespace and request -> 'tables' ? c.relname
        union all
        select 'function', p.oid, p.oid::regprocedure::text, p.proowner,
               coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), array['EXECUTE'], array['EXECUTE']
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'public'::regnamespace and p.proname like 'turnlog\_%'
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
                       'sees_schema', pg_catalog.has_schema_privilege(r.oid, 'public', 'usage'),
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


-- {settings: [name ...]} -> {now: seconds since the epoch, database, login, settings: {name: {value, source}}, overrides:
-- [{role, database, setting, value}]}: what holds for the caller, and what is set for this database or the roles that write.
create or replace function public.turnlog_settings_v1(request jsonb) returns jsonb
language sql volatile -- of two calls in one statement the second is later
set search_path = ''
as $$
    select jsonb_build_object(
        'now', extract(epoch from clock_timestamp()),
        'database', current_database(),
        'login', session_user,
        'settings', (
            select jsonb_object_agg(s.name, jsonb_build_object('value', s.setting, 'source', s.source))
              from pg_catalog.pg_settings as s
             where request -> 'settings' ? s.name),
        'overrides', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'role', r.rolname, 'database', b.datname, 'setting', split_part(c.setting, '=', 1),
                       'value', substr(c.setting, strpos(c.setting, '=') + 1)) order by r.rolname, b.datname), '[]')
              from pg_catalog.pg_db_role_setting as d
              left join pg_catalog.pg_roles as r on r.oid = d.setrole
              left join pg_catalog.pg_database as b on b.oid = d.setdatabase
             cross join unnest(d.setconfig) as c (setting)
             where (d.setdatabase = 0 or b.datname = current_database())
               and (d.setrole = 0 or r.rolname in (current_user, session_user, 'service_role', 'authenticator'))
               and request -> 'settings' ? split_part(c.setting, '=', 1)))
$$;


-- A condition in SQL: whether a text is no identity but what a missing one looks like, perhaps after string formatting.
-- Written into the statements below, since a call for each of a million rows takes six times as long.
create or replace function public.turnlog_blank_v1(expression text) returns text
language sql immutable
set search_path = ''
as $$
    select format(
        '(%1$s is null or lower(btrim(%1$s, E'' \t\r\n''))'
        ' in ('''', ''null'', ''undefined'', ''none'', ''00000000-0000-0000-0000-000000000000''))', expression)
$$;


-- {foreign: [{table, columns, references, referenced}], keys: [{table, columns, required}], names: [{table, column}]} ->
-- what is wrong with the rows of Turnlog's own tables, whatever their constraints say: {orphans: [{table, references,
-- rows, examples}], incomplete: [{table, columns, rows}], repeated: [{table, columns, values, examples}],
-- placeholders: [{table, column, rows}], undead: rows that an erased session still has}. Only what is found is listed.
create or replace function public.turnlog_identities_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set statement_timeout = '5min' -- PostgREST takes it over for the call; whole tables are read
as $$
declare
    entry jsonb;
    answer jsonb := '{"orphans": [], "incomplete": [], "repeated": [], "placeholders": [], "undead": 0}';
    columns text;
    found bigint;
    examples jsonb;
begin
    for entry in select * from jsonb_array_elements(request -> 'foreign') loop
        execute format(
            'select count(*), jsonb_agg(distinct to_jsonb(o.identity)) filter (where o.n <= 3)
               from (select jsonb_build_array(%3$s) as identity, row_number() over (order by %3$s) as n
                       from public.%1$I as c
                      where (%3$s) is not null and not exists (select from public.%2$I as p where (%4$s) = (%3$s))) as o',
            entry ->> 'table', entry ->> 'references',
            (select string_agg(format('c.%I', f), ', ') from jsonb_array_elements_text(entry -> 'columns') as f),
            (select string_agg(format('p.%I', f), ', ') from jsonb_array_elements_text(entry -> 'referenced') as f))
           into found, examples;
        if found > 0 then
            answer := jsonb_insert(answer, '{orphans,-1}', entry || jsonb_build_object('rows', found, 'examples', examples), true);
        end if;
    end loop;

    for entry in select * from jsonb_array_elements(request -> 'keys') loop
        columns := (select string_agg(format('c.%I', f), ', ') from jsonb_array_elements_text(entry -> 'columns') as f);
        if (entry ->> 'required')::boolean then
            execute format('select count(*) from public.%I as c where not ((%s) is not null)', entry ->> 'table', columns)
               into found;
            if found > 0 then
                answer := jsonb_insert(answer, '{incomplete,-1}', entry || jsonb_build_object('rows', found), true);
            end if;
        end if;
        execute format(
            'select count(*), jsonb_agg(r.identity) filter (where r.n <= 3)
               from (select jsonb_build_array(%2$s) as identity, row_number() over (order by %2$s) as n
                       from public.%1$I as c where (%2$s) is not null group by %2$s having count(*) > 1) as r',
            entry ->> 'table', columns)
           into found, examples;
        if found > 0 then
            answer := jsonb_insert(answer, '{repeated,-1}', entry || jsonb_build_object('values', found, 'examples', examples), true);
        end if;
    end loop;

    for entry in select * from jsonb_array_elements(request -> 'names') loop
        execute format(
            'select count(*) from public.%1$I as c where c.%2$I is not null and %3$s',
            entry ->> 'table', entry ->> 'column',
            public.turnlog_blank_v1(format('c.%I::text', entry ->> 'column')))
           into found;
        if found > 0 then
            answer := jsonb_insert(answer, '{placeholders,-1}', entry || jsonb_build_object('rows', found), true);
        end if;
    end loop;

    return answer || jsonb_build_object('undead', (
        select count(*)
          from public.ai_sessions as s
          join public.ai_interactions as i on i.project = s.project and i.session_id = s.id
         where s.erased_at is not null));
end
$$;


-- {schema, table} -> null if there is no such table, or {schema, table, columns: [{name, type, kind, must_be_filled}],
-- primary_key: [name ...], references: [{column, schema, table, referenced}], neighbours: the tables of the schema,
-- rows_hidden, privileges}. `kind`: text, number, uuid or other. References of several columns are left out.
create or replace function public.turnlog_table_v1(request jsonb) returns jsonb
language sql stable
set search_path = ''
set lock_timeout = '3s' -- describing a column asks for a lock, too
as $$
    select jsonb_build_object(
        'schema', n.nspname, 'table', c.relname,
        'columns', (
            select jsonb_agg(jsonb_build_object(
                       'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                       'kind', case when a.atttypid = 'uuid'::regtype then 'uuid'
                                    when t.typcategory = 'S' then 'text'
                                    when t.typcategory = 'N' then 'number' else 'other' end,
                       'must_be_filled', a.attnotnull and not a.atthasdef and a.attidentity = '') order by a.attnum)
              from pg_catalog.pg_attribute as a
              join pg_catalog.pg_type as t on t.oid = a.atttypid
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
        'primary_key', (
            select coalesce(jsonb_agg(a.attname order by k.n), '[]')
              from pg_catalog.pg_constraint as p
             cross join unnest(p.conkey) with ordinality as k (attnum, n)
              join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
             where p.conrelid = c.oid and p.contype = 'p'),
        'references', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'column', a.attname, 'schema', rn.nspname, 'table', r.relname, 'referenced', ra.attname)
                       order by f.conname), '[]')
              from pg_catalog.pg_constraint as f
              join pg_catalog.pg_attribute as a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
              join pg_catalog.pg_class as r on r.oid = f.confrelid
              join pg_catalog.pg_namespace as rn on rn.oid = r.relnamespace
              join pg_catalog.pg_attribute as ra on ra.attrelid = f.confrelid and ra.attnum = f.confkey[1]
             where f.conrelid = c.oid and f.contype = 'f' and cardinality(f.conkey) = 1),
        'neighbours', (
            select jsonb_agg(o.relname order by o.relname)
              from pg_catalog.pg_class as o
             where o.relnamespace = c.relnamespace and o.relkind in ('r', 'p') and not o.relispartition),
        'rows_hidden', row_security_active(c.oid),
        'privileges', array(
            select p from unnest(array['SELECT', 'INSERT', 'UPDATE']) as p
             where pg_catalog.has_table_privilege(c.oid, p)))
      from pg_catalog.pg_class as c
      join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = request ->> 'schema' and c.relname = request ->> 'table' and c.relkind in ('r', 'p')
$$;


-- A column of anybody's table, as the functions below put it into SQL. Raises 42703 if there is none.
create or replace function public.turnlog_column_v1(
    in_schema text, in_table text, in_column text, out relation text, out name text, out type text, out kind text)
language plpgsql stable
set search_path = ''
as $$
begin
    -- the type without its length: a cast would cut what is too long, an assignment refuses it
    select format('%I.%I', n.nspname, c.relname), format('%I', a.attname), pg_catalog.format_type(a.atttypid, null),
           case when a.atttypid = 'uuid'::regtype then 'uuid' when t.typcategory = 'S' then 'text'
                when t.typcategory = 'N' then 'number' else 'other' end
      into relation, name, type, kind
      from pg_catalog.pg_class as c
      join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
      join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_catalog.pg_type as t on t.oid = a.atttypid
     where n.nspname = in_schema and c.relname = in_table and a.attname = in_column and c.relkind in ('r', 'p');
    if not found then
        raise exception using errcode = '42703',
            message = format('there is no column %I in the table %I.%I', in_column, in_schema, in_table);
    end if;
end
$$;


-- An expression in SQL: an id's text, so that those of two columns are the same text where they are the same identity. The
-- kinds are those of both columns: next to a UUID or a number a text is read as one, in whatever spelling, if it can be.
create or replace function public.turnlog_comparable_v1(expression text, kinds text[]) returns text
language sql immutable
set search_path = ''
as $$
    select case
        when kinds = '{uuid,uuid}' then expression
        when 'uuid' = any (kinds) then format($f$(
            case when btrim(%1$s) ~* '^([0-9a-f]{4}-?){7}[0-9a-f]{4}$|^[{]([0-9a-f]{4}-?){7}[0-9a-f]{4}[}]$'
                 then btrim(%1$s)::uuid::text else lower(btrim(%1$s)) end)$f$, expression)
        when 'number' = any (kinds) then format($f$(
            case when %1$s ~ '^\s*[-+]?[0-9]+([.][0-9]+)?\s*$' then trim_scale(%1$s::numeric)::text else %1$s end)$f$,
            expression)
        else expression end
$$;


-- {schema, table, id, session?, parent?: {schema, table, id}} -> what is wrong with the identities of anybody's table:
-- {rows, blank_ids, blank_sessions, repeated: {values, rows, examples}, missing: {sessions, rows, examples}}.
create or replace function public.turnlog_inspect_table_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set lock_timeout = '3s'
set statement_timeout = '5min'
as $$
declare
    id record;
    session record;
    parent record;
    session_text text;
    parent_text text;
    id_blank text;
    session_blank text := 'false';
    answer jsonb;
    more jsonb;
begin
    id := public.turnlog_column_v1(request ->> 'schema', request ->> 'table', request ->> 'id');
    if request ->> 'session' is not null then
        session := public.turnlog_column_v1(request ->> 'schema', request ->> 'table', request ->> 'session');
        session_text := format('t.%s::text', session.name);
        session_blank := public.turnlog_blank_v1(session_text);
    end if;
    id_blank := public.turnlog_blank_v1(format('t.%s::text', id.name));
    execute format(
        'select jsonb_build_object(
             ''rows'', count(*), ''blank_ids'', count(*) filter (where %2$s),
             ''blank_sessions'', count(*) filter (where %3$s))
           from %1$s as t',
        id.relation, id_blank, session_blank)
       into answer;
    execute format(
        'select jsonb_build_object(
             ''values'', count(*), ''rows'', coalesce(sum(r.rows), 0),
             ''examples'', coalesce(jsonb_agg(r.id) filter (where r.n <= 3), ''[]''))
           from (select t.%2$s::text as id, count(*) as rows, row_number() over (order by t.%2$s::text) as n
                   from %1$s as t where not %3$s
                  group by t.%2$s::text having count(*) > 1) as r',
        id.relation, id.name, id_blank)
       into more;
    answer := answer || jsonb_build_object('repeated', more);

    if request -> 'parent' ->> 'table' is not null then
        parent := public.turnlog_column_v1(
            request -> 'parent' ->> 'schema', request -> 'parent' ->> 'table', request -> 'parent' ->> 'id');
        session_text := public.turnlog_comparable_v1(session_text, array[session.kind, parent.kind]);
        parent_text := public.turnlog_comparable_v1(format('p.%s::text', parent.name), array[session.kind, parent.kind]);
        execute format(
            'select jsonb_build_object(
                 ''sessions'', count(*), ''rows'', coalesce(sum(m.rows), 0),
                 ''examples'', coalesce(jsonb_agg(m.session) filter (where m.n <= 3), ''[]''))
               from (select s.session, s.rows, row_number() over (order by s.session) as n
                       from (select %2$s as session, count(*) as rows from %1$s as t
                              where not %5$s group by 1) as s
                      where not exists (select from %3$s as p where %4$s = s.session)) as m',
            id.relation, session_text, parent.relation, parent_text, session_blank)
           into more;
        answer := answer || jsonb_build_object('missing', more);
    end if;
    return answer;
end
$$;


-- A UUID of version 3 in Turnlog's namespace (see logging_store/identity.py): PostgreSQL has MD5 without an extension.
create or replace function public.turnlog_derived_id_v1(name text) returns uuid
language sql immutable
set search_path = ''
as $$
    select overlay(overlay(h.digest placing '3' from 13)
                   placing to_hex(('x' || substr(h.digest, 17, 1))::bit(4)::integer & 3 | 8) from 17)::uuid
      from (select md5(decode('ced5a058c03654cda9be49f37108eca6', 'hex') || convert_to(name, 'UTF8')) as digest) as h
$$;


-- The highest number that a column has or its sequence has given, 0 if there is none.
create or replace function public.turnlog_highest_v1(relation text, in_column text) returns numeric
language plpgsql volatile
set search_path = ''
as $$
declare
    highest numeric;
    given numeric;
    sequence constant text := pg_catalog.pg_get_serial_sequence(relation, in_column);
begin
    execute format('select coalesce(max(t.%I), 0) from %s as t', in_column, relation) into highest;
    if sequence is not null then
        execute format('select s.last_value from %s as s', sequence) into given;
    end if;
    return greatest(highest, given);
end
$$;


-- Moves a column's sequence, if it has one, past the numbers that were inserted beside it.
create or replace function public.turnlog_advance_v1(relation text, in_column text) returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    highest constant numeric := case when pg_catalog.pg_get_serial_sequence(relation, in_column) is not null
        then public.turnlog_highest_v1(relation, in_column) end;
    given numeric;
begin
    if highest is not null then
        execute format('select s.last_value from %s as s', pg_catalog.pg_get_serial_sequence(relation, in_column)) into given;
        if highest > given then
            perform pg_catalog.setval(pg_catalog.pg_get_serial_sequence(relation, in_column), highest::bigint);
        end if;
    end if;
end
$$;


-- {schema, table, id, session?, parent?: {schema, table, id}, set?: {column: text}, apply?, expect?} -> mends what
-- turnlog_inspect_table_v1 finds in anybody's table: blank ids and blank sessions get new ones, sessions that the parent's
-- table lacks are inserted there, with the columns of `set`. Nothing is deleted; repeated ids stay.
-- {changed: rows, parents, ids, sessions: how many, examples: {parents: [id], ids: [{from, to}], sessions: [{id, to}]},
-- applied}. It is done, and unless `apply` is true and `changed` is what was expected, rolled back again: so what a
-- dry run tells is what would happen.
--
-- A new text or UUID derives from the row: from its id, or without one from all its columns. A new number is the next
-- one. Rows without a session get one each, as nothing says which of them belong together.
create or replace function public.turnlog_mend_table_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC' -- times are part of what ids derive from
set lock_timeout = '3s'
set statement_timeout = '5min'
as $$
declare
    applies constant boolean := coalesce((request ->> 'apply')::boolean, false);
    id record;
    session record;
    parent record;
    has_session constant boolean := request ->> 'session' is not null;
    has_parent constant boolean := request -> 'parent' ->> 'table' is not null;
    session_text text := 'null::text';
    parent_text text;
    id_blank text;
    session_blank text := 'false';
    next_id text := 'null';          -- expressions over a row of `numbered`
    next_session text := 'null';
    highest numeric;
    target record;
    inserts text := 'select null::text as id where false';
    updates text := 'select m.no_id, m.no_session, m.id, m.new_id, m.new_session from named as m';
    ids_lack boolean;
    sessions_lack boolean;
    answer jsonb;
begin
    id := public.turnlog_column_v1(request ->> 'schema', request ->> 'table', request ->> 'id');
    -- a record has no fields before its first value
    select null::text as relation, null::text as name, null::text as type, null::text as kind into session;
    parent := session;
    if has_session then
        session := public.turnlog_column_v1(request ->> 'schema', request ->> 'table', request ->> 'session');
        session_text := format('t.%s::text', session.name);
        session_blank := public.turnlog_blank_v1(session_text);
    end if;
    id_blank := public.turnlog_blank_v1(format('t.%s::text', id.name));
    if has_parent then
        parent := public.turnlog_column_v1(
            request -> 'parent' ->> 'schema', request -> 'parent' ->> 'table', request -> 'parent' ->> 'id');
        session_text := public.turnlog_comparable_v1(session_text, array[session.kind, parent.kind]);
        parent_text := public.turnlog_comparable_v1(format('p.%s::text', parent.name), array[session.kind, parent.kind]);
    end if;

    begin
        -- nobody writes meanwhile, so what is counted is what is changed; in the order of the names, against deadlocks
        for target in
            select distinct r.relation
              from unnest(array[id.relation, case when has_parent then parent.relation end]) as r (relation)
             where r.relation is not null order by r.relation
        loop
            execute format('lock table %s in share row exclusive mode', target.relation);
        end loop;

        execute format(
            'select exists (select from %1$s as t where %2$s), exists (select from %1$s as t where %3$s)',
            id.relation, id_blank, session_blank)
           into ids_lack, sessions_lack;
        if ids_lack and id.kind = 'other' or sessions_lack and session.kind = 'other' then
            raise exception using errcode = '22023', message = format(
                'only text, UUIDs and numbers can be made up: fill the empty values of %s yourself first', id.relation);
        end if;
        -- a column that lacks nothing isn't touched: what is always generated may not be updated
        if ids_lack or sessions_lack then
            updates := format(
                'update %s as t set %s from named as m where t.tableoid = m.part and t.ctid = m.place
                 returning m.no_id, m.no_session, m.id, m.new_id, m.new_session',
                id.relation, concat_ws(', ',
                case when ids_lack then
                    format('%1$s = case when m.no_id then m.new_id::%2$s else t.%1$s end', id.name, id.type) end,
                case when sessions_lack then
                    format('%1$s = case when m.no_session then m.new_session::%2$s else t.%1$s end', session.name, session.type)
                end));
        end if;

        if id.kind = 'number' then
            highest := public.turnlog_highest_v1(id.relation, request ->> 'id');
            next_id := format('(%s + row_number() over (partition by b.no_id order by b.part, b.place))::text', highest);
        elsif id.kind <> 'other' then
            next_id := 'public.turnlog_derived_id_v1(jsonb_build_array(''repair'', %1$L, ''id'', b.basis, b.nth)::text)::text';
            next_id := format(next_id, id.relation);
        end if;
        if has_session and session.kind = 'number' then
            highest := public.turnlog_highest_v1(session.relation, request ->> 'session');
            if has_parent and parent.kind = 'number' then
                highest := greatest(highest, public.turnlog_highest_v1(parent.relation, request -> 'parent' ->> 'id'));
            end if;
            next_session := format('(%s + row_number() over (partition by b.no_session order by b.part, b.place))::text', highest);
        elsif has_session and session.kind <> 'other' then
            next_session := 'public.turnlog_derived_id_v1(jsonb_build_array(''repair'', %1$L, ''session'', b.basis, b.nth)::text)::text';
            next_session := format(next_session, id.relation);
        end if;

        if has_parent then
            inserts := format(
                'insert into %1$s (%2$s) overriding system value
                 select %3$s
                   from (select distinct %5$s as session from %4$s as t where not %7$s
                         union
                         select m.new_session from named as m where m.no_session) as s
                  where not exists (select from %1$s as p where %8$s = s.session)
                  order by s.session
                 returning %6$s::text as id',
                parent.relation,
                (select string_agg(c.name, ', ' order by c.key nulls first) from (
                    select null as key, parent.name::text as name
                    union all
                    select s.key, format('%I', s.key) from jsonb_each(coalesce(request -> 'set', '{}')) as s) as c),
                (select string_agg(c.value, ', ' order by c.key nulls first) from (
                    select null as key, format('s.session::%s', parent.type) as value
                    union all
                    select s.key, format('%L::%s', s.value, (public.turnlog_column_v1(
                               request -> 'parent' ->> 'schema', request -> 'parent' ->> 'table', s.key)).type)
                      from jsonb_each_text(coalesce(request -> 'set', '{}')) as s) as c),
                id.relation, session_text, parent.name, session_blank, parent_text);
        end if;

        execute format(
            'with broken as materialized (
                 select t.tableoid as part, t.ctid as place, t.%2$s::text as id,
                        %3$s as no_id, %4$s as no_session,
                        case when %3$s then jsonb_build_array(md5((to_jsonb(t.*) - %5$L)::text))
                             else to_jsonb(t.%2$s::text) end as basis
                   from %1$s as t
                  where %3$s or %4$s
             ), numbered as (
                 select b.*, row_number() over (partition by b.basis order by b.part, b.place) as nth from broken as b
             ), named as materialized (
                 select b.*, %6$s as new_id, %7$s as new_session from numbered as b
             ), parents as (
                 %8$s
             ), mended as (
                 %9$s
             )
             select jsonb_build_object(
                 ''changed'', (select count(*) from parents) + (select count(*) from mended),
                 ''parents'', (select count(*) from parents),
                 ''ids'', (select count(*) from mended where no_id),
                 ''sessions'', (select count(*) from mended where no_session),
                 ''examples'', jsonb_build_object(
                     ''parents'', (select coalesce(jsonb_agg(e.id order by e.id), ''[]'')
                                     from (select p.id from parents as p order by p.id limit 3) as e),
                     ''ids'', (select coalesce(jsonb_agg(jsonb_build_object(''from'', e.id, ''to'', e.new_id)), ''[]'')
                                 from (select m.id, m.new_id from mended as m where m.no_id order by m.new_id limit 3) as e),
                     ''sessions'', (select coalesce(jsonb_agg(jsonb_build_object(''id'', e.id, ''to'', e.new_session)), ''[]'')
                                      from (select coalesce(case when m.no_id then m.new_id end, m.id) as id, m.new_session
                                              from mended as m where m.no_session order by m.new_session limit 3) as e)))',
            id.relation, id.name, id_blank, session_blank, request ->> 'id', next_id, next_session, inserts, updates)
           into answer;
        set constraints all immediate; -- what would fail at the commit fails in the dry run, too

        if not applies or (answer ->> 'changed')::bigint <> (request ->> 'expect')::bigint then
            raise exception using errcode = 'TL000', message = 'rolled back: a dry run, or not what was expected';
        end if;
    exception when sqlstate 'TL000' then
        return answer || '{"applied": false}';
    end;

    perform public.turnlog_advance_v1(id.relation, request ->> 'id');
    if has_parent then
        perform public.turnlog_advance_v1(parent.relation, request -> 'parent' ->> 'id');
    end if;
    return answer || '{"applied": true}';
end
$$;


do $$ begin perform public.turnlog_close_v1(); end $$;
