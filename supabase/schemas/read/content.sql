-- Returns a prompt, a response or a context as it was sent, whichever way it is stored: see turnlog.by_content. `last`, `before`:
-- the histories that end with it, and before it; `answered`: of a prompt, the one that ends with its response.
-- `instructions`: those it begins with. `most`: of a list only the last ones.
create or replace function turnlog.content(
    stored jsonb, in_project text, in_session uuid, last uuid, before uuid, answered uuid default null,
    instructions uuid default null, most integer default null)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
    if jsonb_typeof(stored) is distinct from 'object' then
        return stored;
    elsif stored ->> 'as' = 'text' then
        return turnlog.messages(in_project, in_session, last, before, answered) #> '{0,content}';
    end if;
    return case when instructions is null then '[]' else turnlog.messages(in_project, in_session, instructions) end
        || turnlog.messages(in_project, in_session, last, before, answered, most);
end
$$;
