-- {ms} -> {indexed, left}: indexes what waits, for about so many milliseconds; `left` tells whether there is more.
-- Several may do so at once: each takes what no other has. It waits for nobody, so that it can't be part of a deadlock.
-- Who writes what is being indexed waits for it: so the clock is looked at with each text, and few bytes are taken on at once.
create or replace function turnlog.index_pending(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    ends_at constant timestamptz := clock_timestamp() + make_interval(secs => (request ->> 'ms')::double precision / 1000);
    at_once constant integer := 100;       -- interactions; of one session they are indexed as one text
    bytes_at_once constant integer := 25000;
    short constant integer := 5000;        -- bytes of a text that is indexed with others
    longest constant integer := 50000;     -- bytes of a text that is indexed: about 0.1 s on a busy core
    unread constant integer := 500000;     -- bytes as stored, of more the text isn't even read
    in_project text;                       -- of one project at a time: what waits of another may be on another machine
    taken turnlog.ai_search_queue[];
    one record;
    done_sessions uuid[];
    done_parts uuid[];
    done_ids uuid[];
    said text;                             -- '': nothing; null: too long
    texts text[];
    bytes integer;
    indexed integer := 0;
begin
    loop
        if in_project is null or coalesce(cardinality(taken), 0) = 0 then
            in_project := (select q.project from turnlog.ai_search_queue as q
                            where in_project is null or q.project > in_project
                            order by q.project limit 1);
            exit when in_project is null;
        end if;
        taken := array(
            select q from turnlog.ai_search_queue as q
             where q.project = in_project
             order by q.session_id, q.part
             limit at_once
               for update skip locked);
        continue when cardinality(taken) = 0;

        texts := '{}';
        bytes := 0;
        done_sessions := '{}';
        done_parts := '{}';
        done_ids := '{}';
        for one in
            select t.session_id, t.part, i.id
              from unnest(taken) with ordinality as t
             cross join lateral unnest(t.ids) with ordinality as i (id, n)
             order by t.ordinality, i.n
             limit at_once
        loop
            exit when cardinality(texts) > 0 and (bytes >= bytes_at_once or clock_timestamp() > ends_at);
            select case when coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0) <= unread
                        then concat_ws(E'\n', turnlog.plain_text(i.prompt), turnlog.plain_text(i.response)) end
              into said
              from turnlog.ai_interactions as i
             where i.project = in_project and i.session_id = one.session_id and i.id = one.id
                   and not exists (select from turnlog.ai_sessions as s
                                    where s.project = in_project and s.id = i.session_id and s.erased_at is not null);
            if not found then
                said := '';
            elsif octet_length(said) > longest then
                said := null;
            else
                said := turnlog.fold(said);
                bytes := bytes + coalesce(octet_length(said), 0);
            end if;
            texts := array_append(texts, said);
            done_sessions := done_sessions || one.session_id;
            done_parts := done_parts || one.part;
            done_ids := done_ids || one.id;
        end loop;

        insert into turnlog.ai_search (project, session_id, part, grams)
        select in_project, parts.session_id, gen_random_uuid(),
               case when parts.said is null then '{-1}' else turnlog.grams(parts.said) end
          from (select t.session_id, string_agg(t.said, E'\n') as said
                  from unnest(done_sessions, done_ids, texts) as t (session_id, id, said)
                 where t.said is null or t.said <> ''
                 group by t.session_id, t.said is null, case when octet_length(t.said) > short then t.id end) as parts
         where parts.said is null or octet_length(parts.said) >= 3;

        -- by how many of a row's ids are done: an id may stand in rows of other sessions, too
        with done as (
            select d.session_id, d.part, count(*)::integer as count
              from unnest(done_sessions, done_parts) as d (session_id, part)
             group by d.session_id, d.part
        ), gone as (
            delete from turnlog.ai_search_queue as q
             using done
             where q.project = in_project and q.session_id = done.session_id and q.part = done.part
               and cardinality(q.ids) <= done.count
        )
        update turnlog.ai_search_queue as q
           set ids = array(select u.id from unnest(q.ids) with ordinality as u (id, n) where u.n > done.count order by u.n)
          from done
         where q.project = in_project and q.session_id = done.session_id and q.part = done.part
           and cardinality(q.ids) > done.count;
        indexed := indexed + cardinality(done_ids);
        exit when clock_timestamp() > ends_at;
    end loop;
    return jsonb_build_object('indexed', indexed, 'left', exists (select q.project from turnlog.ai_search_queue as q));
end
$$;
