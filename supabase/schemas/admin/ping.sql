-- Returns the schema's version, which database this is, the time, and the server's settings on which durability depends.
-- Takes {}.
create or replace function turnlog.ping(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261128000000', -- the version of the release's migration
        'database_id', case -- null: the doctor says which rights the role lacks
            when has_table_privilege('turnlog.migrations', 'select') then turnlog.database_id() end,
        'now', statement_timestamp(),
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('turnlog.ai_sessions'))
$$;
