-- The queries of `turnlog doctor --table` on other applications' tables, and the changes of `turnlog repair`.
--
-- foreign_tables.py runs this file at the start of its transaction and calls these functions within it, always as
-- `pg_temp.NAME`, since no search path finds functions of that schema. No other connection ever sees them.

-- resolve names to the server's own functions only, whatever overloads the database has; but see `repair`
set local search_path = pg_catalog, pg_temp;
set local timezone = 'UTC'; -- times are part of what ids derive from
set local lock_timeout = '3s';
set local statement_timeout = '5min';


-- Returns null if there is no such table, or {schema, table, columns: [{name, must_be_filled}], primary_key: [name ...],
-- references: [{column, schema, table, referenced}], neighbours: the tables of the schema, readable, rows_hidden}.
-- Composite references are left out.
create function pg_temp.describe(in_schema text, in_table text) returns jsonb
language sql stable
as $$
    select jsonb_build_object(
        'schema', n.nspname, 'table', c.relname,
        'columns', (
            select jsonb_agg(jsonb_build_object(
                       'name', a.attname,
                       'must_be_filled', a.attnotnull and not a.atthasdef and a.attidentity = '') order by a.attnum)
              from pg_attribute as a
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
        'primary_key', (
            select coalesce(jsonb_agg(a.attname order by k.n), '[]')
              from pg_constraint as p
             cross join unnest(p.conkey) with ordinality as k (attnum, n)
              join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
             where p.conrelid = c.oid and p.contype = 'p'),
        'references', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'column', a.attname, 'schema', rn.nspname, 'table', r.relname, 'referenced', ra.attname)
                       order by f.conname), '[]')
              from pg_constraint as f
              join pg_attribute as a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
              join pg_class as r on r.oid = f.confrelid
              join pg_namespace as rn on rn.oid = r.relnamespace
              join pg_attribute as ra on ra.attrelid = f.confrelid and ra.attnum = f.confkey[1]
             where f.conrelid = c.oid and f.contype = 'f' and cardinality(f.conkey) = 1),
        'neighbours', (
            select jsonb_agg(o.relname order by o.relname)
              from pg_class as o
             where o.relnamespace = c.relnamespace and o.relkind in ('r', 'p') and not o.relispartition),
        'readable', has_table_privilege(c.oid, 'SELECT'),
        'rows_hidden', row_security_active(c.oid))
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname = in_schema and c.relname = in_table and c.relkind in ('r', 'p')
$$;


-- A condition in SQL: whether a text is no identity but what a missing one looks like, perhaps after string formatting.
-- Written into the statements below, since a call for each of a million rows takes six times as long.
create function pg_temp.blank(expression text) returns text
language sql immutable
as $$
    select format(
        '(%1$s is null or pg_catalog.lower(pg_catalog.btrim(%1$s, E'' \t\r\n''))'
        ' in ('''', ''null'', ''undefined'', ''none'', ''00000000-0000-0000-0000-000000000000''))', expression)
$$;


-- An expression in SQL: an id's text, so that those of two columns are the same text where they are the same identity. The
-- `kinds`: the types of both columns. Beside a UUID or a number, a text is cast to that type if it can be.
create function pg_temp.comparable(expression text, kinds text[]) returns text
language sql immutable
as $$
    select case
        when kinds = '{uuid,uuid}' then expression
        when 'uuid' = any (kinds) then format($f$(
            case when pg_catalog.btrim(%1$s) ~* '^([0-9a-f]{4}-?){7}[0-9a-f]{4}$|^[{]([0-9a-f]{4}-?){7}[0-9a-f]{4}[}]$'
                 then pg_catalog.btrim(%1$s)::uuid::text else pg_catalog.lower(pg_catalog.btrim(%1$s)) end)$f$, expression)
        when 'number' = any (kinds) then format($f$(
            case when %1$s ~ '^\s*[-+]?[0-9]+([.][0-9]+)?\s*$'
                 then pg_catalog.trim_scale(%1$s::numeric)::text else %1$s end)$f$,
            expression)
        else expression end
$$;


-- Returns the columns that a request names, as the functions below put them into SQL: names are quoted, `relation` and
-- `parent` with their schema. A request is {schema, table, id, session?, parent?: {schema, table, id}}. `*_kind`: text,
-- number, uuid or other. `*_text`: an id's text, comparable between session and parent. `*_blank`: conditions.
create function pg_temp.columns_of(
    request jsonb,
    out relation text, out id text, out id_type text, out id_kind text, out id_blank text,
    out session text, out session_type text, out session_kind text, out session_text text, out session_blank text,
    out parent text, out parent_id text, out parent_type text, out parent_kind text, out parent_text text)
language sql stable
as $$
    with found as (
        select w.part, format('%I.%I', n.nspname, k.relname) as relation, format('%I', a.attname) as name,
               -- the type without its length: a cast would cut what is too long, an assignment refuses it
               format_type(a.atttypid, null) as type,
               case when a.atttypid = 'uuid'::regtype then 'uuid' when t.typcategory = 'S' then 'text'
                    when t.typcategory = 'N' then 'number' else 'other' end as kind
          from (values ('id', request, request ->> 'id'), ('session', request, request ->> 'session'),
                       ('parent', request -> 'parent', request -> 'parent' ->> 'id')) as w (part, place, name)
          join pg_namespace as n on n.nspname = w.place ->> 'schema'
          join pg_class as k on k.relnamespace = n.oid and k.relname = w.place ->> 'table' and k.relkind in ('r', 'p')
          join pg_attribute as a on a.attrelid = k.oid and a.attname = w.name and a.attnum > 0 and not a.attisdropped
          join pg_type as t on t.oid = a.atttypid
    )
    select i.relation, i.name, i.type, i.kind, pg_temp.blank(format('t.%s::text', i.name)),
           s.name, s.type, s.kind,
           case when p.name is not null
                then pg_temp.comparable(format('t.%s::text', s.name), array[s.kind, p.kind]) else 'null::text' end,
           case when s.name is not null then pg_temp.blank(format('t.%s::text', s.name)) else 'false' end,
           p.relation, p.name, p.type, p.kind, pg_temp.comparable(format('p.%s::text', p.name), array[s.kind, p.kind])
      from found as i
      left join found as s on s.part = 'session'
      left join found as p on p.part = 'parent'
     where i.part = 'id'
$$;


-- Returns what is wrong with the identities of a table: {rows, blank_ids, blank_sessions,
-- repeated: {values, rows, examples}, missing: {sessions, rows, examples}}.
create function pg_temp.inspect(request jsonb) returns jsonb
language plpgsql stable
as $$
declare
    c constant record := pg_temp.columns_of(request);
    answer jsonb;
    more jsonb;
begin
    execute format(
        'select jsonb_build_object(
             ''rows'', count(*), ''blank_ids'', count(*) filter (where %2$s),
             ''blank_sessions'', count(*) filter (where %3$s))
           from %1$s as t',
        c.relation, c.id_blank, c.session_blank)
       into answer;
    execute format(
        'select jsonb_build_object(
             ''values'', count(*), ''rows'', coalesce(sum(r.rows), 0),
             ''examples'', coalesce(jsonb_agg(r.id) filter (where r.n <= 3), ''[]''))
           from (select t.%2$s::text as id, count(*) as rows, row_number() over (order by t.%2$s::text) as n
                   from %1$s as t where not %3$s
                  group by t.%2$s::text having count(*) > 1) as r',
        c.relation, c.id, c.id_blank)
       into more;
    answer := answer || jsonb_build_object('repeated', more);
    if c.parent is not null then
        execute format(
            'select jsonb_build_object(
                 ''sessions'', count(*), ''rows'', coalesce(sum(m.rows), 0),
                 ''examples'', coalesce(jsonb_agg(m.session) filter (where m.n <= 3), ''[]''))
               from (select s.session, s.rows, row_number() over (order by s.session) as n
                       from (select %2$s as session, count(*) as rows from %1$s as t
                              where not %5$s group by 1) as s
                      where not exists (select from %3$s as p where %4$s = s.session)) as m',
            c.relation, c.session_text, c.parent, c.parent_text, c.session_blank)
           into more;
        answer := answer || jsonb_build_object('missing', more);
    end if;
    return answer;
end
$$;


-- A UUID of version 3 in Turnlog's namespace (see logging_store/records/identity.py): PostgreSQL has MD5 without an extension.
create function pg_temp.derived_id(name text) returns uuid
language sql immutable
set search_path = pg_catalog, pg_temp -- it is called within the tables' own path
as $$
    select overlay(overlay(h.digest placing '3' from 13)
                   placing to_hex(('x' || substr(h.digest, 17, 1))::bit(4)::integer & 3 | 8) from 17)::uuid
      from (select md5(decode('ced5a058c03654cda9be49f37108eca6', 'hex') || convert_to(name, 'UTF8')) as digest) as h
$$;


-- The highest number that a column has or its sequence has given, 0 if there is none.
create function pg_temp.highest(relation text, in_column text) returns numeric
language plpgsql volatile
as $$
declare
    highest numeric;
    given numeric;
    sequence constant text := pg_get_serial_sequence(relation, in_column);
begin
    execute format('select coalesce(max(t.%I), 0) from %s as t', in_column, relation) into highest;
    if sequence is not null then
        execute format('select s.last_value from %s as s', sequence) into given;
    end if;
    return greatest(highest, given);
end
$$;


-- Moves the sequences of a request's ids, where there are any, past the numbers that were inserted beside them. No
-- rollback undoes that.
create function pg_temp.advance(request jsonb) returns void
language plpgsql volatile
as $$
declare
    c constant record := pg_temp.columns_of(request);
    target record;
begin
    for target in
        select t.relation, t.name, pg_get_serial_sequence(t.relation, t.name) as sequence
          from (values (c.relation, request ->> 'id'), (c.parent, request -> 'parent' ->> 'id')) as t (relation, name)
    loop
        if target.sequence is not null then
            execute format(
                'select setval(%1$L, max(t.%2$I)::bigint) from %3$s as t having max(t.%2$I) > (select last_value from %1$s)',
                target.sequence, target.name, target.relation);
        end if;
    end loop;
end
$$;


-- Repairs what `inspect` finds: blank ids and blank sessions get new ones, sessions that the parent's table lacks are
-- inserted there, with the texts of `fills` in these columns. Nothing is deleted; repeated ids stay.
-- Returns {changed: rows, parents, ids, sessions: how many, examples: {parents: [id], ids: [{from, to}],
-- sessions: [{id, to}]}}. A dry run calls it, too, and rolls back; `advance` is for those who commit. `search_path`: that
-- of the role or database, which the tables' own triggers may rely on.
--
-- A new text or UUID derives from the row: from its id, or without one from all its columns. A new number is the next
-- one. Rows without a session get one each, as nothing says which of them belong together.
create function pg_temp.repair(request jsonb, fills jsonb, search_path text) returns jsonb
language plpgsql volatile
as $$
declare
    c constant record := pg_temp.columns_of(request);
    derived constant text :=
        'pg_temp.derived_id(pg_catalog.jsonb_build_array(''repair'', %L, %L, b.basis, b.nth)::text)::text';
    next_number constant text := '(%s + pg_catalog.row_number() over (partition by b.%s order by b.part, b.place))::text';
    next_id text := 'null';          -- expressions over a row of `numbered`
    next_session text := 'null';
    target text;
    inserts text := 'select null::text as id where false';
    updates text := 'select m.no_id, m.no_session, m.id, m.new_id, m.new_session from named as m';
    ids_lack boolean;
    sessions_lack boolean;
    statement text;
    answer jsonb;
begin
    -- nobody writes meanwhile, so what is counted is what is changed; in the order of the names, against deadlocks
    for target in select distinct r from unnest(array[c.relation, c.parent]) as r where r is not null order by r loop
        execute format('lock table %s in share row exclusive mode', target);
    end loop;

    execute format(
        'select exists (select from %1$s as t where %2$s), exists (select from %1$s as t where %3$s)',
        c.relation, c.id_blank, c.session_blank)
       into ids_lack, sessions_lack;
    if ids_lack and c.id_kind = 'other' or sessions_lack and c.session_kind = 'other' then
        raise exception 'only text, UUIDs and numbers can be made up: fill the empty values of % yourself first', c.relation;
    end if;
    -- a column that lacks nothing isn't touched: what is always generated may not be updated
    if ids_lack or sessions_lack then
        updates := format(
            'update %s as t set %s from named as m where t.tableoid = m.part and t.ctid = m.place
             returning m.no_id, m.no_session, m.id, m.new_id, m.new_session',
            c.relation, concat_ws(', ',
            case when ids_lack then
                format('%1$s = case when m.no_id then m.new_id::%2$s else t.%1$s end', c.id, c.id_type) end,
            case when sessions_lack then
                format('%1$s = case when m.no_session then m.new_session::%2$s else t.%1$s end', c.session, c.session_type)
            end));
    end if;

    if c.id_kind = 'number' then
        next_id := format(next_number, pg_temp.highest(c.relation, request ->> 'id'), 'no_id');
    elsif c.id_kind <> 'other' then
        next_id := format(derived, c.relation, 'id');
    end if;
    if c.session_kind = 'number' then
        next_session := format(next_number, greatest(
            pg_temp.highest(c.relation, request ->> 'session'),
            case when c.parent_kind = 'number' then pg_temp.highest(c.parent, request -> 'parent' ->> 'id') end),
            'no_session');
    elsif c.session_kind <> 'other' then
        next_session := format(derived, c.relation, 'session');
    end if;

    if c.parent is not null then
        inserts := format(
            'insert into %1$s (%2$s) overriding system value
             select %3$s
               from (select distinct %5$s as session from %4$s as t where not %7$s
                     union
                     select m.new_session from named as m where m.no_session) as s
              where not exists (select from %1$s as p where %8$s = s.session)
              order by s.session
             returning %6$s::text as id',
            c.parent,
            concat_ws(', ', c.parent_id,
                      (select string_agg(format('%I', f.key), ', ' order by f.key) from jsonb_each_text(fills) as f)),
            concat_ws(', ', format('s.session::%s', c.parent_type),
                      (select string_agg(format('%L', f.value), ', ' order by f.key) from jsonb_each_text(fills) as f)),
            c.relation, c.session_text, c.parent_id, c.session_blank, c.parent_text);
    end if;

    statement := format(
        'with broken as materialized (
             select t.tableoid as part, t.ctid as place, t.%2$s::text as id,
                    %3$s as no_id, %4$s as no_session,
                    case when %3$s then pg_catalog.jsonb_build_array(pg_catalog.md5((pg_catalog.to_jsonb(t.*) - %5$L)::text))
                         else pg_catalog.to_jsonb(t.%2$s::text) end as basis
               from %1$s as t
              where %3$s or %4$s
         ), numbered as (
             select b.*, pg_catalog.row_number() over (partition by b.basis order by b.part, b.place) as nth from broken as b
         ), named as materialized (
             select b.*, %6$s as new_id, %7$s as new_session from numbered as b
         ), parents as (
             %8$s
         ), repaired as (
             %9$s
         )
         select pg_catalog.jsonb_build_object(
             ''changed'', (select pg_catalog.count(*) from parents) + (select pg_catalog.count(*) from repaired),
             ''parents'', (select pg_catalog.count(*) from parents),
             ''ids'', (select pg_catalog.count(*) from repaired where no_id),
             ''sessions'', (select pg_catalog.count(*) from repaired where no_session),
             ''examples'', pg_catalog.jsonb_build_object(
                 ''parents'', array(select p.id from parents as p order by p.id limit 3),
                 ''ids'', array(
                     select pg_catalog.jsonb_build_object(''from'', m.id, ''to'', m.new_id)
                       from repaired as m where m.no_id order by m.new_id limit 3),
                 ''sessions'', array(
                     select pg_catalog.jsonb_build_object(
                                ''id'', coalesce(case when m.no_id then m.new_id end, m.id), ''to'', m.new_session)
                       from repaired as m where m.no_session order by m.new_session limit 3)))',
        c.relation, c.id, c.id_blank, c.session_blank, request ->> 'id', next_id, next_session, inserts, updates);
    -- what it calls is named with its schema: a better fitting overload may be elsewhere in that path
    perform set_config('search_path', concat_ws(', ', 'pg_catalog', nullif(search_path, '')), true);
    execute statement into answer;
    set constraints all immediate; -- what would fail at the commit fails in the dry run, too
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    return answer;
end
$$;
