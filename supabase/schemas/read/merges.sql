-- Returns the merges of a user: {into: whom the user was merged into, or null; guests: who were merged into the user}.
-- Takes {project, user_id}.
create or replace function turnlog.merges(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
as $$
begin
    return jsonb_build_object(
        'into', (select m.into_user from turnlog.ai_user_merges as m
                  where m.project = request ->> 'project' and m.guest = request ->> 'user_id'),
        'guests', (select coalesce(jsonb_agg(m.guest order by m.guest), '[]') from turnlog.ai_user_merges as m
                    where m.project = request ->> 'project' and m.into_user = request ->> 'user_id'));
end
$$;
