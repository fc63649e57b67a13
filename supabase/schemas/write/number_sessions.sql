-- Assigns session numbers below folders that the batch has locked, so that nobody else can take one. `planned`: the
-- sessions of the folders' plans, which are appended to the batch's own.
-- Returns what replaces the batch's own rows: {sessions, participants, unplanned: how many of the sessions aren't
-- planned ones, numbers_taken: [position ...] of the sessions whose number another session holds}.
create or replace function turnlog.number_sessions(in_project text, rows jsonb, planned jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]') || planned;
    ids uuid[];
    folders uuid[];
    numbers integer[];
    one record;
    number integer;
    holder uuid;
    aliases jsonb := '{}';  -- id derived from a number -> id of the session that has the number
begin
    select array_agg(s.id order by s.ordinality), array_agg(s.folder_id order by s.ordinality),
           array_agg(s.session_number order by s.ordinality)
      into ids, folders, numbers
      from rows from (jsonb_to_recordset(sessions) as (id uuid, folder_id uuid, session_number integer))
           with ordinality as s;

    -- Several sessions that want one number can only be written one after another: this error makes the caller bisect the
    -- batch.
    if exists (select from unnest(ids, folders, numbers) as s (id, folder_id, number)
                where s.number is not null
                group by s.folder_id, s.number having count(distinct s.id) > 1) then
        raise exception using errcode = '23505', constraint = 'ai_sessions_folder_number_key',
            message = 'several sessions of one batch want the same number of a folder';
    end if;

    for one in
        select s.ordinality as at, s.value ->> 'numbering' as numbering
          from jsonb_array_elements(sessions) with ordinality as s
         where s.value ? 'numbering'
         order by s.value ->> 'numbering' = 'named', s.ordinality
    loop
        if one.numbering = 'named' then
            select s.id
              into holder
              from turnlog.ai_sessions as s
             where s.project = in_project and s.folder_id = folders[one.at] and s.session_number = numbers[one.at];
            if holder <> ids[one.at] then
                aliases := aliases || jsonb_build_object(ids[one.at]::text, holder);
                ids[one.at] := holder;
            end if;
        elsif not exists (
            -- it has a number already, or another row of the batch gives it one
            select from turnlog.ai_sessions as s
             where s.project = in_project and s.id = ids[one.at] and s.session_number is not null
            union all
            select from unnest(ids, numbers) as s (id, number) where s.id = ids[one.at] and s.number is not null)
        then
            select min(free.n)
              into number
              from (select generate_series(1, cardinality(ids) + (
                               select count(*) from turnlog.ai_sessions as s
                                where s.project = in_project and s.folder_id = folders[one.at])) as n
                    except
                    select s.session_number from turnlog.ai_sessions as s
                     where s.project = in_project and s.folder_id = folders[one.at]
                    except
                    select s.number from unnest(folders, numbers) as s (folder_id, number)
                     where s.folder_id = folders[one.at]) as free;
            numbers[one.at] := number;
        end if;
    end loop;

    return jsonb_build_object(
        'unplanned', jsonb_array_length(sessions) - jsonb_array_length(planned),
        'sessions', (
            select coalesce(jsonb_agg(s.value || jsonb_build_object('id', ids[s.ordinality])
                                      || case when numbers[s.ordinality] is null then '{}'
                                              else jsonb_build_object('session_number', numbers[s.ordinality]) end
                                      order by s.ordinality), '[]')
              from jsonb_array_elements(sessions) with ordinality as s),
        -- participants named by a session's number take part in the session that has it
        'participants', (
            select coalesce(jsonb_agg(
                       p.value || case when p.value ->> 'numbering' = 'named' then jsonb_build_object('session_id',
                           coalesce(aliases -> (p.value ->> 'session_id'), p.value -> 'session_id')) else '{}' end
                       order by p.ordinality), '[]')
              from jsonb_array_elements(coalesce(rows -> 'participants', '[]')) with ordinality as p),
        'numbers_taken', (
            select coalesce(jsonb_agg(s.ordinality order by s.ordinality), '[]')
              from unnest(ids, folders, numbers) with ordinality as s (id, folder_id, number, ordinality)
             where s.number is not null
               and exists (select from turnlog.ai_sessions as other
                            where other.project = in_project and other.folder_id = s.folder_id
                              and other.session_number = s.number and other.id <> s.id)));
end
$$;
