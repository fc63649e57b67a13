-- Indexes pending interactions for about `ms` milliseconds. Takes {ms}. Returns {indexed, left: more are pending}.
-- Several may run at once: each takes rows that no other has locked, and waits for nobody, so it can't deadlock.
-- Writers of the rows being indexed wait, so it checks the clock after each text and takes few bytes at once.
create or replace function turnlog.index_pending(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    ends_at constant timestamptz := clock_timestamp() + make_interval(secs => (request ->> 'ms')::double precision / 1000);
    at_once constant integer := 100;       -- interactions; those of one session are indexed as one text
    bytes_at_once constant integer := 25000;
    short constant integer := 5000;        -- bytes; a longer text is indexed by itself
    longest constant integer := 50000;     -- bytes; indexing takes about 0.1 s on a busy core, a longer text matches anything
    unread constant integer := 500000;     -- bytes as stored; a longer text isn't even read
    in_project text;                       -- one project at a time: the queue of another may be on another machine
    claimed turnlog.ai_search_queue[];
    one record;
    said record;
    indexed_sessions uuid[];
    indexed_parts uuid[];
    indexed_ids uuid[];
    content text;                             -- '': nothing to index; null: too long
    texts text[];
    bytes integer;
    indexed integer := 0;
begin
    loop
        if in_project is null or coalesce(cardinality(claimed), 0) = 0 then
            in_project := (select q.project from turnlog.ai_search_queue as q
                            where in_project is null or q.project > in_project
                            order by q.project limit 1);
            exit when in_project is null;
        end if;
        claimed := array(
            select q from turnlog.ai_search_queue as q
             where q.project = in_project
             order by q.session_id, q.part
             limit at_once
               for update skip locked);
        continue when cardinality(claimed) = 0;

        texts := '{}';
        bytes := 0;
        indexed_sessions := '{}';
        indexed_parts := '{}';
        indexed_ids := '{}';
        for one in
            select t.session_id, t.part, i.id
              from unnest(claimed) with ordinality as t
             cross join lateral unnest(t.ids) with ordinality as i (id, n)
             order by t.ordinality, i.n
             limit at_once
        loop
            exit when cardinality(texts) > 0 and (bytes >= bytes_at_once or clock_timestamp() > ends_at);
            select case when stored_bytes.bytes <= unread then i.prompt end as prompt,
                   case when stored_bytes.bytes <= unread then i.response end as response,
                   i.context_end, i.prompt_end, i.response_end,
                   case when i.context is null then i.instructions end as instructions, stored_bytes.bytes <= unread as is_read
              into said
              from turnlog.ai_interactions as i
             cross join lateral (
                   select coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0)
                          + coalesce((select m.bytes from turnlog.ai_messages as m
                                       where m.project = i.project and m.session_id = i.session_id
                                         and m.id = coalesce(i.response_end, i.prompt_end)), 0) as bytes) as stored_bytes
             where i.project = in_project and i.session_id = one.session_id and i.id = one.id
                   and i.erased_at is null and i.text_expired_at is null
                   and not exists (select from turnlog.ai_sessions as s
                                    where s.project = in_project and s.id = i.session_id and s.erased_at is not null);
            content := case when not found then ''
                when said.is_read then concat_ws(E'\n',
                    turnlog.plain_text(turnlog.content(
                        said.prompt, in_project, one.session_id, said.prompt_end, said.context_end, said.response_end,
                        said.instructions)),
                    turnlog.plain_text(turnlog.content(
                        said.response, in_project, one.session_id, said.response_end, said.prompt_end))) end;
            if octet_length(content) > longest then
                content := null;
            else
                content := turnlog.fold(content);
                bytes := bytes + coalesce(octet_length(content), 0);
            end if;
            texts := array_append(texts, content);
            indexed_sessions := indexed_sessions || one.session_id;
            indexed_parts := indexed_parts || one.part;
            indexed_ids := indexed_ids || one.id;
        end loop;

        insert into turnlog.ai_search (project, session_id, part, grams)
        select in_project, parts.session_id, gen_random_uuid(),
               case when parts.content is null then '{-1}' else turnlog.grams(parts.content) end
          from (select t.session_id, string_agg(t.content, E'\n') as content
                  from unnest(indexed_sessions, indexed_ids, texts) as t (session_id, id, content)
                 where t.content is null or t.content <> ''
                 group by t.session_id, t.content is null, case when octet_length(t.content) > short then t.id end) as parts
         where parts.content is null or octet_length(parts.content) >= 3;

        -- ids of a queue row are indexed in order, so their number shows which remain
        with done as (
            select d.session_id, d.part, count(*)::integer as count
              from unnest(indexed_sessions, indexed_parts) as d (session_id, part)
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
        indexed := indexed + cardinality(indexed_ids);
        exit when clock_timestamp() > ends_at;
    end loop;
    return jsonb_build_object('indexed', indexed, 'left', exists (select q.project from turnlog.ai_search_queue as q));
end
$$;
