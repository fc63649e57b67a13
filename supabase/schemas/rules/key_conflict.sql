-- Returns the conflict receipt of a session or an interaction whose key another row holds. Ids derive from keys, so the
-- other row was written past the service; the unique indexes stop a second one, and the receipt names it in `held_by`.
create or replace function turnlog.key_conflict(
    in_project text, session_key text, in_session uuid default null, interaction_key text default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select case when holder.id is not null and holder.id is distinct from in_session
            then jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_sessions_project_key_key', 'columns', array['project', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'key', session_key), 'held_by', holder.id)
            else jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_interactions_session_key_key',
                'columns', array['project', 'session_id', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'session_id', in_session, 'key', interaction_key),
                'held_by', (select i.id from turnlog.ai_interactions as i
                             where i.project = in_project and i.session_id = in_session and i.key = interaction_key))
            end
        from (select 1) as one
        left join turnlog.ai_sessions as holder
            on holder.project = in_project and holder.key = session_key);
end
$$;
