-- Returns a key as its operators see it, without digest and token secret.
create or replace function turnlog.key_row(of_key turnlog.ai_keys) returns jsonb
language sql immutable
set search_path = ''
set timezone = 'UTC'
as $$
    select to_jsonb(of_key) - '{digest,token_secret}'::text[]
$$;
