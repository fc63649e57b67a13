-- Finds missing and doubled turns. {project, session_id, ranges} returns {sessions: [that session, or none], after:
-- null}. {project, limit, ranges, after?: session id} returns {sessions, after}: of the next `limit` sessions by id
-- those with missing or doubled turns, so a page may be short or empty; `after` is null at the end.
--
-- `first` and `last` are the lowest and the highest turn; `missing` counts the turns between them that no interaction
-- has, `counted` the interactions with a turn. At most `ranges` of the `gaps` {from, to} and of the `doubled` turns
-- {turn, interactions} are listed, lowest first; `gap_count` and `doubled_count` are their total numbers.
create or replace function turnlog.gaps(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- the rows of some sessions, never a whole table, whatever its statistics say
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    page_size constant integer := coalesce((request ->> 'limit')::integer, 1);
    most constant integer := request ->> 'ranges';
    after_id constant uuid := coalesce((request ->> 'after')::uuid, '00000000-0000-0000-0000-000000000000');
    ids uuid[];
begin
    if of_session is not null then
        ids := array[of_session];
    else
        -- one more than the page, to know whether another page follows
        ids := array(
            select s.id
              from turnlog.ai_sessions as s
             where s.project = in_project and s.erased_at is null and s.id > after_id
             order by s.id
             limit page_size + 1);
    end if;

    return jsonb_build_object(
        'sessions', (
            with used as (
                select i.session_id, i.turn, count(*) as interactions
                  from turnlog.ai_interactions as i
                 where i.project = in_project and i.session_id = any (ids[:page_size]) and i.turn is not null
                 group by i.session_id, i.turn
            ), stepped as (
                select u.session_id, u.turn, u.interactions, u.interactions > 1 as doubled,
                       lead(u.turn) over upwards as next, lead(u.turn) over upwards > u.turn + 1 as gap
                  from used as u
                window upwards as (partition by u.session_id order by u.turn)
            ), numbered as (
                select s.*, count(*) filter (where s.gap) over upwards as nth_gap,
                       count(*) filter (where s.doubled) over upwards as nth_doubled
                  from stepped as s
                window upwards as (partition by s.session_id order by s.turn)
            ), summed as (
                select n.session_id, min(n.turn) as first, max(n.turn) as last, sum(n.interactions) as counted,
                       coalesce(sum(n.next - n.turn - 1), 0) as missing,
                       count(*) filter (where n.gap) as gap_count,
                       jsonb_agg(jsonb_build_object('from', n.turn + 1, 'to', n.next - 1) order by n.turn)
                           filter (where n.gap and n.nth_gap <= most) as gaps,
                       count(*) filter (where n.doubled) as doubled_count,
                       jsonb_agg(jsonb_build_object('turn', n.turn, 'interactions', n.interactions) order by n.turn)
                           filter (where n.doubled and n.nth_doubled <= most) as doubled
                  from numbered as n
                 group by n.session_id
            )
            select coalesce(jsonb_agg(
                jsonb_build_object(
                    'session_id', s.id, 'key', s.key, 'erased_at', s.erased_at,
                    'first', m.first, 'last', m.last, 'counted', coalesce(m.counted, 0),
                    'missing', coalesce(m.missing, 0),
                    'gap_count', coalesce(m.gap_count, 0), 'gaps', coalesce(m.gaps, '[]'),
                    'doubled_count', coalesce(m.doubled_count, 0), 'doubled', coalesce(m.doubled, '[]'))
                order by s.id), '[]')
              from turnlog.ai_sessions as s
              left join summed as m on m.session_id = s.id
             where s.project = in_project and s.id = any (ids[:page_size])
               and (of_session is not null or m.missing > 0 or m.doubled_count > 0)),
        'after', case when cardinality(ids) > page_size then ids[page_size] end);
end
$$;
