-- Returns the settings in force for the caller, and those set for this database or for the roles that write. Takes
-- {settings: [name ...]}. Returns {now: seconds since the epoch, database, login, settings: {name: {value, source}},
-- overrides: [{role, database, setting, value}]}.
create or replace function turnlog.settings(request jsonb) returns jsonb
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
