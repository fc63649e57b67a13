-- Lists the origins of all pages that may use a key, so that a preflight request needs no lookup. Takes {}. Returns
-- {origins: [...]}.
create or replace function turnlog.origins(request jsonb default '{}') returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select jsonb_build_object('origins', coalesce(jsonb_agg(distinct page.origin), '[]'))
          from turnlog.ai_keys as k
         cross join unnest(k.origins) as page (origin)
         where k.revoked_at is null and (k.expires_at is null or k.expires_at > statement_timestamp()));
end
$$;
