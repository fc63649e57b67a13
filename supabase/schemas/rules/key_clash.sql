-- The receipt of a record whose natural key belongs to a row with another id. Identity derives from the key, so
-- this takes a row that was written past the service; the unique indexes stop it, and the caller is told which.
create or replace function turnlog.key_clash(
    in_project text, session_key text, in_session uuid default null, interaction_key text default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    return (
        select case when session_holder.id is not null and session_holder.id is distinct from in_session
            then jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_sessions_project_key_key', 'columns', array['project', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'key', session_key), 'held_by', session_holder.id)
            else jsonb_build_object(
                'receipt', 'conflict', 'constraint', 'ai_interactions_session_key_key',
                'columns', array['project', 'session_id', 'key'],
                'attempted', jsonb_build_object('project', in_project, 'session_id', in_session, 'key', interaction_key),
                'held_by', (select i.id from turnlog.ai_interactions as i
                             where i.project = in_project and i.session_id = in_session and i.key = interaction_key))
            end
        from (select 1) as one
        left join turnlog.ai_sessions as session_holder
            on session_holder.project = in_project and session_holder.key = session_key);
end
$$;
