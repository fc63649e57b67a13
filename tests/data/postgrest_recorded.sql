-- The database behind the recorded exchanges in postgrest_v14.json: functions named after what they return
-- (f_*) or raise (e_*), and the tables that they write to.

-- Roles belong to the whole server, where other tests may have made them or be making them right now.
do $$
declare
    role_definition text;
begin
    foreach role_definition in array array[
        'anon nologin', 'authenticated nologin', 'service_role nologin bypassrls', 'authenticator noinherit login'
    ] loop
        begin
            execute 'create role ' || role_definition;
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;
    grant anon, authenticated, service_role to authenticator;
    -- For this database only, so that other tests keep their time.
    execute format('alter role anon in database %I set statement_timeout = %L', current_database(), '1s');
    execute format('alter role authenticated in database %I set statement_timeout = %L', current_database(), '2s');
end
$$;

create table ai_sessions (
    project text,
    id uuid,
    key text,
    user_id text,
    metadata jsonb,
    primary key (project, id),
    unique (project, key)
);
create table ai_interactions (
    project text,
    session_id uuid,
    id uuid,
    prompt jsonb,
    response jsonb,
    primary key (project, session_id, id),
    foreign key (project, session_id) references ai_sessions (project, id)
);
alter table ai_sessions enable row level security;
alter table ai_interactions enable row level security;

create table checked (id int primary key, n int not null check (n > 0), u text unique);
create table parent (id int primary key);
create table child (id int references parent (id) deferrable initially deferred);
create table locked (id int primary key, n int not null);
create sequence runs;

-- Puts everything back to where the first exchange found it.
create function start_over() returns void language sql as $$
    truncate ai_sessions, ai_interactions, checked, parent, child, locked;
    insert into locked values (1, 0), (2, 0);
    select setval('runs', 1, false);
$$;

create function record_batch(batch jsonb) returns jsonb language plpgsql as $$
declare
    item jsonb;
    receipts jsonb := '[]';
begin
    for item in select * from jsonb_array_elements(coalesce(batch -> 'sessions', '[]')) loop
        insert into ai_sessions
        select * from jsonb_populate_record(null::ai_sessions, item)
        on conflict do nothing;
        receipts := receipts || jsonb_build_object('kind', 'session', 'id', item -> 'id', 'written', found);
    end loop;
    for item in select * from jsonb_array_elements(coalesce(batch -> 'interactions', '[]')) loop
        insert into ai_interactions
        select * from jsonb_populate_record(null::ai_interactions, item)
        on conflict do nothing;
        receipts := receipts || jsonb_build_object('kind', 'interaction', 'id', item -> 'id', 'written', found);
    end loop;
    return receipts;
end
$$;
create function record_batch_strict(batch jsonb) returns jsonb language plpgsql as $$
begin
    insert into ai_sessions
    select * from jsonb_populate_recordset(null::ai_sessions, coalesce(batch -> 'sessions', '[]'));
    insert into ai_interactions
    select * from jsonb_populate_recordset(null::ai_interactions, coalesce(batch -> 'interactions', '[]'));
    return '[]';
end
$$;

create function echo_jsonb(j jsonb) returns jsonb language sql as 'select j';
create function echo_json(j json) returns json language sql as 'select j';
create function echo_text(t text) returns text language sql as 'select t';
create function size_of(j jsonb) returns int language sql as 'select length(j::text)';
create function take_int(n int) returns int language sql as 'select n';
create function take_uuid(u uuid) returns uuid language sql as 'select u';
create function text_uuid(t text) returns uuid language plpgsql as 'begin return t::uuid; end';
create function with_default(a int, b int default 7) returns int language sql as 'select a + b';
create function overl(a int) returns int language sql as 'select a';
create function overl(a text) returns text language sql as 'select a';
create function revoked(x int) returns int language sql as 'select x';
revoke execute on function revoked from public;
grant execute on function revoked to service_role;

create function slow(s float8) returns void language sql as 'select pg_sleep(s)';
create function slow_insert(i int, s float8) returns void language sql as $$
    select pg_sleep(s);
    insert into checked (id, n) values (i, 1);
$$;
create function hold_lock(a int, s float8) returns void language sql as $$
    update locked set n = n + 1 where id = a;
    select pg_sleep(s);
$$;
create function lock_two(a int, b int) returns void language sql as $$
    update locked set n = n + 1 where id = a;
    select pg_sleep(0.3);
    update locked set n = n + 1 where id = b;
$$;
create function bump_serializable() returns int language plpgsql
set default_transaction_isolation = 'serializable' as $$
declare
    bumped int;
begin
    select n into bumped from locked where id = 1;
    perform pg_sleep(0.1);
    update locked set n = bumped + 1 where id = 1;
    return bumped + 1;
end
$$;

create function e_unique() returns void language sql as 'insert into checked values (1, 1), (1, 1)';
create function e_unique_raised() returns void language plpgsql as $$
begin
    raise unique_violation using message = 'my own words', detail = 'my detail', hint = 'my hint';
end
$$;
create function e_fk() returns void language sql as $$
    insert into ai_interactions (project, session_id, id)
    values ('nowhere', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000001')
$$;
create function e_fk_deferred() returns void language sql as 'insert into child values (999)';
create function e_notnull() returns void language sql as 'insert into checked (id) values (5)';
create function e_check() returns void language sql as 'insert into checked (id, n) values (6, -1)';
create function e_pt409() returns void language plpgsql as $$
begin
    raise sqlstate 'PT409' using message = 'conflict, says the function', detail = 'd', hint = 'h';
end
$$;
create function e_pt503() returns void language plpgsql as $$
begin
    raise sqlstate 'PT503' using message = 'busy', detail = 'd', hint = 'h';
end
$$;
create function e_pt422() returns void language plpgsql as $$
begin
    raise sqlstate 'PT422' using message = 'unprocessable';
end
$$;
create function e_p0001() returns void language plpgsql as $$
begin
    raise exception 'raised' using detail = 'some detail', hint = 'some hint';
end
$$;
create function e_custom() returns void language plpgsql as $$
begin
    raise sqlstate 'AI001' using message = 'own code', detail = 'd', hint = 'h';
end
$$;
create function e_pgrst() returns void language plpgsql as $$
begin
    raise sqlstate 'PGRST' using
        message = '{"code": "AI123", "message": "full control", "details": "d", "hint": "h"}',
        detail = '{"status": 429, "headers": {"Retry-After": "7"}}';
end
$$;
create function e_40001_always() returns void language plpgsql as $$
begin
    raise serialization_failure using message = 'run ' || nextval('runs');
end
$$;
create function e_40p01_always() returns void language plpgsql as $$
begin
    raise deadlock_detected using message = 'run ' || nextval('runs');
end
$$;
create function e_40001_times(k bigint) returns bigint language plpgsql as $$
declare
    run bigint := nextval('runs');
begin
    if run <= k then
        raise serialization_failure using message = 'run ' || run;
    end if;
    return run;
end
$$;

create function f_setof() returns setof checked language sql as $$ values (1, 1, 'x'), (2, 2, 'y') $$;
create function f_setof_scalar() returns setof int language sql as 'values (1), (2), (3)';
create function f_setof_empty() returns setof checked language sql as 'select * from checked where false';
create function f_setof_jsonb() returns setof jsonb language sql as $$
    values ('{"a": 1}'::jsonb), ('{"a": 2}')
$$;
create function f_table() returns table (id int, receipt text) language sql as $$
    values (1, 'x'), (2, 'y')
$$;
create function f_row() returns checked language sql as $$ values (9, 1, 'z') $$;
create function f_scalar() returns int language sql as 'select 42';
create function f_null() returns int language sql as 'select null::int';
create function f_null_jsonb() returns jsonb language sql as 'select null::jsonb';
create function f_jsonb_array() returns jsonb language sql as $$ select '[{"id": 1}, {"id": 2}]'::jsonb $$;
create function f_jsonb_empty() returns jsonb language sql as $$ select '[]'::jsonb $$;
create function f_text() returns text language sql as $$ select 'héllo "q" 😀' $$;
create function f_bool() returns boolean language sql as 'select true';
create function f_void() returns void language sql as '';
create function f_bigint() returns bigint language sql as 'select 9223372036854775807';
create function f_numeric() returns numeric language sql as $$
    select 12345678901234567890.123456789012345678901234567890
$$;
create function f_status() returns jsonb language plpgsql as $$
begin
    perform set_config('response.status', '207', true);
    perform set_config('response.headers', '[{"X-Own": "1"}]', true);
    return '{"a": 1}';
end
$$;
create function raise_notice() returns int language plpgsql as $$
begin
    raise notice 'a notice';
    return 1;
end
$$;

grant all on all tables in schema public to anon, authenticated, service_role;
grant all on all sequences in schema public to anon, authenticated, service_role;
