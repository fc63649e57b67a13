-- Merges a guest into a user, up to `most` sessions, interactions or feedback per call; call it again while `left`. A
-- call with `begin` stores that the guest is this user, so what arrives late for the guest follows: see
-- turnlog.follow_merges. Each later call moves a part of what is stored: the guest's sessions; participations and
-- interactions in any session; feedback, of which the latest counts where both gave some; folders. A user whom another
-- user was merged into stays the end of the chain: whoever is merged into a guest follows that guest.
-- Takes {project, user_id: the guest, into, most, begin?, dry_run?, after?, limit?}. Returns {merged_into: whom the guest
-- belongs to, if that isn't `into`, else null; merged_at, sessions, participations, turns, feedback, folders: counts of
-- this call, left, after}. `dry_run` counts, `limit` sessions with participations per call, in pages.
create or replace function turnlog.merge_user(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one user's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_guest constant text := request ->> 'user_id';
    most constant integer := request ->> 'most';
    page_size constant integer := request ->> 'limit';
    begins constant boolean := coalesce((request ->> 'begin')::boolean, false);
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    counts jsonb := '{"sessions": 0, "participations": 0, "turns": 0, "feedback": 0, "folders": 0}';
    merge turnlog.ai_user_merges;
    target text := request ->> 'into';
    ids uuid[];
    rows jsonb;
    affected bigint;
    has_more boolean := true;
begin
    perform turnlog.lock_merges(in_project, to_merge => begins and not dry_run);
    -- `into` may have been merged itself
    target := coalesce((select m.into_user from turnlog.ai_user_merges as m
                         where m.project = in_project and m.guest = target), target);
    select m.* into merge from turnlog.ai_user_merges as m where m.project = in_project and m.guest = of_guest;
    if target = of_guest then -- `into` was merged into the guest
        return counts || jsonb_build_object('merged_into', of_guest, 'merged_at', null, 'left', false, 'after', null);
    elsif merge.into_user <> target then
        return counts || jsonb_build_object('merged_into', merge.into_user, 'merged_at', merge.merged_at, 'left', false,
                                            'after', null);
    end if;

    if dry_run then
        ids := array(
            select p.session_id
              from turnlog.ai_session_participants as p
             where p.project = in_project and p.participant = of_guest
               and (request ->> 'after' is null or p.session_id > (request ->> 'after')::uuid)
             order by p.session_id
             limit page_size);
        counts := counts || jsonb_build_object(
            'participations', cardinality(ids),
            'turns', (select count(*) from turnlog.ai_interactions as i
                       where i.project = in_project and i.session_id = any (ids) and i.participant = of_guest));
        if cardinality(ids) < page_size then
            counts := counts || jsonb_build_object(
                'sessions', (select count(*) from turnlog.ai_sessions as s
                              where s.project = in_project and s.user_id = of_guest and s.erased_at is null),
                'feedback', (select count(*) from turnlog.ai_feedback as f
                              where f.project = in_project and f.author = of_guest),
                'folders', (select count(*) from turnlog.ai_session_folders as f
                             where f.project = in_project and f.user_id = of_guest));
        end if;
        return counts || jsonb_build_object(
            'merged_into', null, 'merged_at', merge.merged_at, 'left', false,
            'after', case when cardinality(ids) = page_size then ids[page_size] end);
    elsif begins then
        insert into turnlog.ai_user_merges (project, guest, into_user, merged_at)
        values (in_project, of_guest, target, statement_timestamp())
            on conflict do nothing;
        update turnlog.ai_user_merges as m
           set into_user = target
         where m.project = in_project and m.into_user = of_guest;
    else
        -- 1. The guest's sessions, locked in the order of all writers.
        ids := array(
            select s.id from turnlog.ai_sessions as s
             where s.project = in_project and s.id = any (array(
                   select d.id from turnlog.ai_sessions as d
                    where d.project = in_project and d.user_id = of_guest and d.erased_at is null limit most))
             order by s.id
               for update);
        if ids <> '{}' then
            update turnlog.ai_sessions as s
               set user_id = target,
                   edited = array(select f from unnest(s.edited) as f union select 'user_id')
             where s.project = in_project and s.id = any (ids) and s.user_id = of_guest;
            get diagnostics affected = row_count;
            counts := counts || jsonb_build_object('sessions', affected);
        else
            -- 2. The guest's participations, with the interactions that name the guest.
            ids := array(
                select p.session_id from turnlog.ai_session_participants as p
                 where p.project = in_project and p.participant = of_guest
                 order by p.session_id
                 limit 200);
            if ids <> '{}' then
                perform from (
                    select s.id from turnlog.ai_sessions as s
                     where s.project = in_project and s.id = any (ids)
                     order by s.id
                       for update) as locked;
                update turnlog.ai_interactions as i
                   set participant = target
                 where i.project = in_project collate "C" and i.ctid = any (array(
                       select d.ctid from turnlog.ai_interactions as d
                        where d.project = in_project and d.session_id = any (ids) and d.participant = of_guest limit most));
                get diagnostics affected = row_count;
                counts := counts || jsonb_build_object('turns', affected);
                with gone as (
                    delete from turnlog.ai_session_participants as p
                     where p.project = in_project and p.session_id = any (ids) and p.participant = of_guest
                       and not exists (select from turnlog.ai_interactions as i
                                        where i.project = in_project and i.session_id = p.session_id
                                          and i.participant = of_guest)
                    returning p.*
                )
                select count(*), jsonb_agg(jsonb_strip_nulls(to_jsonb(g)) || jsonb_build_object('participant', target)
                                           order by g.session_id)
                  into affected, rows
                  from gone as g;
                if rows is not null then
                    perform turnlog.write_participants(in_project, jsonb_build_object('participants', rows), '{}');
                end if;
                counts := counts || jsonb_build_object('participations', affected);
            else
                -- 3. The guest's feedback.
                ids := array(
                    select distinct f.session_id from (
                        select f.session_id from turnlog.ai_feedback as f
                         where f.project = in_project and f.author = of_guest
                         order by f.session_id
                         limit most) as f);
                if ids <> '{}' then
                    perform from (
                        select s.id from turnlog.ai_sessions as s
                         where s.project = in_project and s.id = any (ids)
                         order by s.id
                           for update) as locked;
                    with gone as (
                        delete from turnlog.ai_feedback as f
                         where f.project = in_project collate "C" and f.ctid = any (array(
                               select d.ctid from turnlog.ai_feedback as d
                                where d.project = in_project and d.author = of_guest and d.session_id = any (ids) limit most))
                        returning f.*
                    )
                    select count(*), jsonb_agg(to_jsonb(g) || jsonb_build_object('author', target))
                      into affected, rows
                      from gone as g;
                    if rows is not null then
                        perform turnlog.write_feedback(in_project, jsonb_build_object('feedback', rows), '{}');
                    end if;
                    counts := counts || jsonb_build_object('feedback', affected);
                else
                    -- 4. The guest's folders.
                    ids := array(
                        select f.id from turnlog.ai_session_folders as f
                         where f.project = in_project and f.user_id = of_guest
                         order by f.id
                         limit most
                           for no key update);
                    update turnlog.ai_session_folders as f
                       set user_id = target
                     where f.project = in_project and f.id = any (ids);
                    counts := counts || jsonb_build_object('folders', cardinality(ids));
                    has_more := ids <> '{}';
                end if;
            end if;
        end if;
    end if;
    return counts || jsonb_build_object(
        'merged_into', null, 'left', has_more, 'after', null,
        'merged_at', (select m.merged_at from turnlog.ai_user_merges as m
                       where m.project = in_project and m.guest = of_guest));
end
$$;
