-- Returns the fraction of a span to read: 1 if it has no more than about `most` rows, else the fraction with about
-- `sample` rows. `of`: 'interactions', 'failures' or 'sessions'. It counts growing slices of the span until they hold a
-- thousand rows, so it reads some thousands itself, however many there are.
create or replace function turnlog.sample_share(
    in_project text, of text, not_before timestamptz, before timestamptz, parts integer, most integer, sample integer)
returns double precision
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some slices of an index, never a whole table, whatever its statistics say
as $$
declare
    enough constant integer := 1000;
    tried double precision;
    at_most integer := enough; -- the first count covers the whole span and stops here: usually there are no more
    counted bigint;
begin
    foreach tried in array array[1, 1.0 / 65536, 1.0 / 2048, 1.0 / 64, 1.0 / 8, 1] loop
        if of = 'interactions' then
            select count(*) into counted
              from (select from turnlog.slices(not_before, before, parts, tried) as slice
                     cross join lateral (
                           select from turnlog.ai_interactions as i
                            where i.project = in_project
                              and coalesce(i.started_at, i.created_at) >= slice.first
                              and coalesce(i.started_at, i.created_at) < slice.last
                           offset 0) as i
                     limit at_most) as found_rows;
        elsif of = 'failures' then
            select count(*) into counted
              from (select from turnlog.slices(not_before, before, parts, tried) as slice
                     cross join lateral (
                           select from turnlog.ai_interactions as i
                            where i.project = in_project
                              and (i.status = 'failed' or i.status is null and i.error <> '')
                              and coalesce(i.started_at, i.created_at) >= slice.first
                              and coalesce(i.started_at, i.created_at) < slice.last
                           offset 0) as i
                     limit at_most) as found_rows;
        else
            select count(*) into counted
              from (select from turnlog.slices(not_before, before, parts, tried) as slice
                     cross join lateral (
                           select from turnlog.ai_sessions as s
                            where s.project = in_project and s.erased_at is null
                              and coalesce(s.started_at, s.earliest_turn_at, s.created_at) >= slice.first
                              and coalesce(s.started_at, s.earliest_turn_at, s.created_at) < slice.last
                           offset 0) as s
                     limit at_most) as found_rows;
        end if;
        if at_most is not null and counted < at_most then
            return 1;
        end if;
        exit when at_most is null and counted >= enough;
        at_most := null;
    end loop;
    return case when counted <= most * tried then 1 else least(1, sample * tried / counted) end;
end
$$;
