-- Returns the ids of sessions that match one selective filter of a list's request, or the condition `walked` if it is
-- given; null if they are more than `most`, or if no filter is selective. They may belong to other projects: callers
-- check the project and the other filters.
create or replace function turnlog.session_candidates(request jsonb, walked text, most integer) returns uuid[]
language plpgsql stable
set search_path = ''
set enable_seqscan = off -- some entries of an index, never a whole table, whatever its statistics say
set jit = off
as $$
declare
    in_project constant text := request ->> 'project';
    entries constant integer := most * 2; -- of interactions: most sessions have several
    found_ids uuid[];
    counted bigint;
begin
    if walked is not null then
        execute 'select array_agg(w.id) from (select s.id from turnlog.ai_sessions as s where ' || walked || ' limit $2) as w'
           into found_ids using request, most + 1;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ->> 'tag' is not null then
        select array_agg(t.id) into found_ids
          from (select s.id from turnlog.ai_sessions as s where s.tags @> array[request ->> 'tag'] limit most + 1) as t;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ? 'metadata' then
        execute 'select array_agg(m.id) from (select s.id from turnlog.ai_sessions as s where '
                || turnlog.metadata_condition(request) || ' limit $2) as m'
           into found_ids using request, most + 1;
        if coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ? 'rating' then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select f.session_id from turnlog.ai_feedback as f
                 where f.project = in_project and f.name = 'rating' and jsonb_typeof(f.value) = 'boolean'
                   and f.value = request -> 'rating'
                 limit entries + 1) as e;
        if counted <= entries then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if (request ->> 'has_errors')::boolean then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select i.session_id from turnlog.ai_interactions as i
                 where i.project = in_project and (i.status = 'failed' or i.status is null and i.error <> '')
                 limit entries + 1) as e;
        if counted <= entries and coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    if request ->> 'model' is not null then
        select array_agg(distinct e.session_id), count(*) into found_ids, counted
          from (select i.session_id from turnlog.ai_interactions as i
                 where i.project = in_project and i.model = request ->> 'model'
                 limit entries + 1) as e;
        if counted <= entries and coalesce(cardinality(found_ids), 0) <= most then
            return coalesce(found_ids, '{}');
        end if;
    end if;
    return null;
end
$$;
