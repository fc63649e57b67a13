-- Returns a page of a session with everything that is shown beside it, each part as the function of its name returns
-- it. Takes {project, session_id, limit, feedback, revisions?, owner?, author?, neighbours?} and at most one of interaction_id,
-- after, before as turnlog.outline does, with the branch of `branches` and `branch`. Returns {session, outline,
-- transcript, participants, folder, feedback, revisions}. The transcript begins one interaction before the page, if there is one.
-- `folder` has up to `neighbours` sessions, from the one before this on; it is null without `neighbours` or without a
-- folder. `feedback` is that on the session and on the page's interactions, at most so many; `revisions` are
-- those of the page's interactions, at most so many and about 4 MB, null without the number. Everything but the session
-- is null for a tombstone and if the owner isn't `owner`.
create or replace function turnlog.conversation(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    of_session constant jsonb := jsonb_build_object('project', request -> 'project', 'session_id', request -> 'session_id');
    found_session constant jsonb := turnlog.session(request);
    number constant integer := found_session ->> 'session_number';
    outline jsonb;
    leads integer;
    page jsonb;
begin
    if found_session ->> 'erased_at' is not null
       or request ? 'owner' and found_session is not null and found_session ->> 'owner' is distinct from request ->> 'owner' then
        return jsonb_build_object('session', found_session, 'outline', null, 'transcript', null, 'participants', null,
                                  'folder', null, 'feedback', null, 'revisions', null);
    end if;
    outline := turnlog.outline(request);
    leads := case when (outline ->> 'index')::bigint > 0 then 1 else 0 end;
    page := turnlog.transcript(of_session || jsonb_build_object(
        'limit', (request ->> 'limit')::integer + leads,
        'branches', request -> 'branches', 'branch', outline -> 'branch',
        'after', outline -> case leads when 1 then 'context' else 'after' end));
    return jsonb_build_object(
        'session', found_session,
        'outline', outline,
        'transcript', page,
        'participants', turnlog.participants(request),
        'folder', case when request ->> 'neighbours' is not null and found_session ->> 'folder_id' is not null then
            turnlog.folder(jsonb_build_object(
                'project', request -> 'project', 'folder_id', found_session -> 'folder_id', 'limit', request -> 'neighbours',
                -- the cursor behind the session two numbers before
                'after', case when number > 1 then jsonb_build_object(
                    'number', number - 2, 'session_id', 'ffffffff-ffff-ffff-ffff-ffffffffffff') end)) end,
        'feedback', turnlog.feedback(
            of_session || jsonb_build_object(
                'limit', request -> 'feedback',
                'interaction_ids', jsonb_path_query_array(page, '$.interactions[*].interaction_id')
                                   || '["00000000-0000-0000-0000-000000000000"]')
            || case when request ? 'author' then jsonb_build_object('author', request -> 'author') else '{}' end),
        'revisions', case when request ->> 'revisions' is not null then
            turnlog.revisions(of_session || jsonb_build_object(
                'limit', request -> 'revisions', 'bytes', 4000000,
                'interaction_ids', jsonb_path_query_array(page, '$.interactions[*].interaction_id'))) end);
end
$$;
