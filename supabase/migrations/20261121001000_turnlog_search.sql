-- Searching what was said: the texts of prompts and responses, in any script.

-- What is looked through from the newest on; a plan may also take it for the time of an interaction.
create index if not exists ai_interactions_newest_idx
    on public.ai_interactions (project, (coalesce(started_at, created_at)) desc, session_id desc, id desc);


-- In which sessions some bytes stand beside each other. It is made behind the writes, so it lacks what still waits in
-- ai_search_queue. A row is of some interactions of a session; there are several, and the same bytes may stand in many.
create table if not exists public.ai_search (
    project    text      not null,
    session_id uuid      not null,
    part       uuid      not null,
    grams      integer[] not null,                  -- see turnlog_grams_v1; -1: anything, the text is too long
    constraint ai_search_pkey primary key (project, session_id, part)
);
create index if not exists ai_search_grams_idx on public.ai_search using gin (grams);

create table if not exists public.ai_search_queue (
    project    text not null,
    session_id uuid not null,
    id         uuid not null,
    constraint ai_search_queue_pkey primary key (project, session_id, id)
);


create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'schema', '20261121001000',
        'server_version', current_setting('server_version'),
        'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        'fsync', current_setting('fsync'),
        'synchronous_commit', current_setting('synchronous_commit'),
        'full_page_writes', current_setting('full_page_writes'),
        'transaction_isolation', current_setting('transaction_isolation'),
        'rows_hidden', row_security_active('public.ai_sessions'))
$$;


-- The text of a prompt or a response. Of a list of messages: what they say, and the tools that they call with what.
create or replace function public.turnlog_text_v1(said jsonb) returns text
language plpgsql immutable parallel safe -- a tenth of what a call of SQL takes, where it is a text
set search_path = ''
as $$
begin
    if jsonb_typeof(said) = 'string' then
        return said #>> '{}';
    end if;
    return (
        select string_agg(case jsonb_typeof(part.value) when 'string' then part.value #>> '{}' else part.value::text end,
                          E'\n' order by message.n, part.kind, part.n)
          from jsonb_array_elements(said) with ordinality as message (value, n)
         cross join lateral (
               select 1 as kind, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content ? (@.type() == "string")') with ordinality as said (value, n)
               union all
               select 2, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content[*].text ? (@.type() == "string")')
                      with ordinality as said (value, n)
               union all
               select 3, said.value, said.n
                 from jsonb_path_query(message.value, 'lax $.content[*].content ? (@.type() == "string")')
                      with ordinality as said (value, n)
               union all
               select 4, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.name') with ordinality as called (value, n)
               union all
               select 5, called.value, called.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.arguments')
                      with ordinality as called (value, n)) as part);
end
$$;


-- What texts and terms are compared by: small letters, full-width forms and ligatures as the plain ones, letters and
-- their accents composed, and without marks that nobody sees (soft hyphens, joiners, signs of direction).
create or replace function public.turnlog_fold_v1(said text) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
    return case when octet_length(said) = length(said) then lower(said)
        else replace(lower(case
            when said ~ '[\u00AD\u061C\u200B-\u200F\u202A-\u202E\u2060\u2066-\u2069\uFE0E\uFE0F\uFEFF]'
                then translate(normalize(said, nfkc),
                    U&'\00AD\061C\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FE0E\FE0F\FEFF', '')
            when said is nfkc normalized then said -- mostly, and to look takes half as long
            else normalize(said, nfkc) end), U&'\03C2', U&'\03C3') end; -- a final sigma is a sigma
end
$$;


-- All that stands in a folded text by three bytes of UTF-8, each as a number, once: one character of Chinese, two letters
-- of Arabic, three of English. So it serves any script, and needs no extension. Null of less than three bytes.
create or replace function public.turnlog_grams_v1(folded text) returns integer[]
language sql immutable parallel safe
set search_path = ''
as $$
    select array_agg(distinct_grams.gram)
      from (select distinct get_byte(bytes.said, n) << 16 | get_byte(bytes.said, n + 1) << 8 | get_byte(bytes.said, n + 2) as gram
              from (select convert_to(folded, 'UTF8') as said offset 0) as bytes, -- else it is converted for each byte
                   generate_series(0, octet_length(folded) - 3) as n) as distinct_grams
$$;


-- What is written is queued, to be indexed later: that costs a write a twentieth, indexing at once would cost half.
-- A row of the queue that is being indexed is waited for: what is said here must not be taken for indexed already.
create or replace function public.turnlog_queue_v1() returns trigger
language plpgsql volatile
set search_path = ''
as $$
begin
    insert into public.ai_search_queue (project, session_id, id)
    select distinct w.project, w.session_id, w.id from written as w
     where w.id <> '00000000-0000-0000-0000-000000000000' -- or null: mending such a row comes here again
        on conflict (project, session_id, id) do update set id = excluded.id;
    return null;
end
$$;

-- Takes a session out of the index and queues what is left of it, unless it is erased. The queue goes first: whoever is
-- indexing it has committed when that is through. What is left is looked up last, so that nothing is missed that came
-- meanwhile. Of a long session the index says that it may hold anything: to queue it all with each step of an erasure would take ever longer.
create or replace function public.turnlog_index_anew_v1(in_project text, of_session uuid) returns void
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
    most constant integer := 1000; -- interactions that are queued
    ids uuid[];
begin
    delete from public.ai_search_queue as q where q.project = in_project and q.session_id = of_session;
    delete from public.ai_search as s where s.project = in_project and s.session_id = of_session;
    if exists (select from public.ai_sessions as s
                where s.project = in_project and s.id = of_session and s.erased_at is not null) then
        return;
    end if;
    ids := array(
        select i.id from public.ai_interactions as i
         where i.project = in_project and i.session_id = of_session and i.id <> '00000000-0000-0000-0000-000000000000'
         order by i.id
         limit most + 1);
    if cardinality(ids) > most then
        insert into public.ai_search (project, session_id, part, grams)
        values (in_project, of_session, gen_random_uuid(), '{-1}');
    elsif cardinality(ids) > 0 then
        insert into public.ai_search_queue (project, session_id, id)
        select in_project, of_session, i.id from unnest(ids) as i (id)
            on conflict (project, session_id, id) do update set id = excluded.id;
    end if;
end
$$;

-- The same for what was changed, if a text was. Where one was replaced or erased, all that is indexed of the session goes,
-- and what it now says is indexed anew.
create or replace function public.turnlog_requeue_v1() returns trigger
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
set enable_nestloop = off -- the plan is made once, for as many rows as there were then
as $$
declare
    changed public.ai_search_queue[];
    replaced public.ai_search_queue[];
    cleared record;
begin
    select array_agg(row (w.project, w.session_id, w.id)::public.ai_search_queue) filter (
               where w.id <> '00000000-0000-0000-0000-000000000000' -- or null: mending such a row comes here again
                 and (o.id is null or w.prompt is distinct from o.prompt or w.response is distinct from o.response)),
           array_agg(row (o.project, o.session_id, o.id)::public.ai_search_queue) filter (
               where o.prompt is not null and w.prompt is distinct from o.prompt
                  or o.response is not null and w.response is distinct from o.response)
      into changed, replaced
      from written as w
      full join was as o on o.project = w.project and o.session_id = w.session_id and o.id = w.id;
    if changed is not null then
        insert into public.ai_search_queue (project, session_id, id)
        select c.project, c.session_id, c.id from unnest(changed) as c
            on conflict (project, session_id, id) do update set id = excluded.id;
    end if;
    if replaced is not null then
        for cleared in select distinct r.project, r.session_id from unnest(replaced) as r loop
            perform public.turnlog_index_anew_v1(cleared.project, cleared.session_id);
        end loop;
    end if;
    return null;
end
$$;

-- What is gone is gone from here as well; what is left of its session is indexed anew.
create or replace function public.turnlog_unindex_v1() returns trigger
language plpgsql volatile
set search_path = ''
as $$
declare
    cleared record;
begin
    for cleared in select distinct g.project, g.session_id from gone as g loop
        perform public.turnlog_index_anew_v1(cleared.project, cleared.session_id);
    end loop;
    return null;
end
$$;

create or replace trigger ai_interactions_queue after insert on public.ai_interactions
    referencing new table as written for each statement execute function public.turnlog_queue_v1();
create or replace trigger ai_interactions_requeue after update on public.ai_interactions
    referencing old table as was new table as written for each statement execute function public.turnlog_requeue_v1();
create or replace trigger ai_interactions_unindex after delete on public.ai_interactions
    referencing old table as gone for each statement execute function public.turnlog_unindex_v1();


-- {ms} -> {indexed, left}: indexes what waits, for about so many milliseconds; `left` tells whether there is more.
-- Several may do so at once: each takes what no other has. It waits for nobody, so that it can't be part of a deadlock.
-- Who writes what is being indexed waits for it: so the clock is looked at with each text, and few bytes are taken on at once.
create or replace function public.turnlog_index_v1(request jsonb) returns jsonb
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
    taken public.ai_search_queue[];
    one public.ai_search_queue;
    said text;                             -- '': nothing; null: too long
    texts text[];
    bytes integer;
    indexed integer := 0;
begin
    loop
        taken := array(
            select t from (select q.* from public.ai_search_queue as q
                            order by q.project, q.session_id, q.id
                            limit at_once
                              for update skip locked) as t);
        exit when cardinality(taken) = 0;

        texts := '{}';
        bytes := 0;
        foreach one in array taken loop
            exit when cardinality(texts) > 0 and (bytes >= bytes_at_once or clock_timestamp() > ends_at);
            select case when coalesce(pg_column_size(i.prompt), 0) + coalesce(pg_column_size(i.response), 0) <= unread
                        then concat_ws(E'\n', public.turnlog_text_v1(i.prompt), public.turnlog_text_v1(i.response)) end
              into said
              from public.ai_interactions as i
             where i.project = one.project and i.session_id = one.session_id and i.id = one.id
                   and not exists (select from public.ai_sessions as s
                                    where s.project = i.project and s.id = i.session_id and s.erased_at is not null);
            if not found then
                said := '';
            elsif octet_length(said) > longest then
                said := null;
            else
                said := public.turnlog_fold_v1(said);
                bytes := bytes + coalesce(octet_length(said), 0);
            end if;
            texts := array_append(texts, said);
        end loop;
        taken := taken[:cardinality(texts)];

        insert into public.ai_search (project, session_id, part, grams)
        select parts.project, parts.session_id, gen_random_uuid(),
               case when parts.said is null then '{-1}' else public.turnlog_grams_v1(parts.said) end
          from (select t.project, t.session_id, string_agg(t.said, E'\n') as said
                  from rows from (unnest(taken), unnest(texts)) as t (project, session_id, id, said)
                 where t.said is null or t.said <> ''
                 group by t.project, t.session_id, t.said is null, case when octet_length(t.said) > short then t.id end) as parts
         where parts.said is null or octet_length(parts.said) >= 3;

        delete from public.ai_search_queue as q
         using unnest(taken) as t
         where q.project = t.project and q.session_id = t.session_id and q.id = t.id;
        indexed := indexed + cardinality(taken);
        exit when clock_timestamp() > ends_at;
    end loop;
    return jsonb_build_object('indexed', indexed, 'left', exists (select from public.ai_search_queue));
end
$$;


-- {limit, after?: {project, session_id, id}} -> {queued, after}: queues the next `limit` interactions of all projects, in
-- the order of their addresses, and takes what was indexed of their sessions away, also of such that aren't there any more.
-- `after` is null at the end. While a session is only queued in part, the index says that it may hold anything.
create or replace function public.turnlog_reindex_v1(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set enable_seqscan = off
set lock_timeout = '3s'
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    in_part constant uuid := '00000000-0000-0000-0000-000000000000'; -- the part that says so
    after_project constant text := request #>> '{after,project}';
    after_session constant uuid := request #>> '{after,session_id}';
    after_id constant uuid := request #>> '{after,id}';
    page public.ai_search_queue[];
    last_one public.ai_search_queue;
    goes_on boolean;
begin
    page := array(
        select row (i.project, i.session_id, i.id)::public.ai_search_queue
          from public.ai_interactions as i
         where (after_id is null or (i.project, i.session_id, i.id) > (after_project, after_session, after_id))
               and i.id <> '00000000-0000-0000-0000-000000000000'
         order by i.project, i.session_id, i.id
         limit page_size);
    goes_on := cardinality(page) = page_size;
    last_one := page[cardinality(page)];

    insert into public.ai_search_queue (project, session_id, id)
    select p.project, p.session_id, p.id from unnest(page) as p
        on conflict (project, session_id, id) do update set id = excluded.id;
    delete from public.ai_search as s
     where s.project = after_project and s.session_id = after_session and s.part = in_part;
    delete from public.ai_search as s
     where (after_id is null or (s.project, s.session_id) > (after_project, after_session))
           and (not goes_on or (s.project, s.session_id) <= (last_one.project, last_one.session_id));
    if goes_on then
        insert into public.ai_search (project, session_id, part, grams)
        values (last_one.project, last_one.session_id, in_part, '{-1}')
            on conflict (project, session_id, part) do nothing;
    end if;
    return jsonb_build_object('queued', cardinality(page), 'after', case when goes_on then to_jsonb(last_one) end);
end
$$;


-- {project, terms, limit, rows, ms, order, first?, words?, user_id?, unclaimed?, session_id?, model?, from?, to?, after?: {at,
-- session_id, interaction_id}} -> {hits, after, complete, searched, matched, searched_to}: interactions that say all the
-- terms (or any, without terms), newest first by their started_at, or created_at where the caller gave none. `words`: as whole words only.
--
-- A call looks at `rows` interactions at most, for about `ms` milliseconds, so that none hangs (`first`
-- newest ones before it asks the index): it answers what it found
-- and where to go on, and `complete` is false if it ended so. With `order` match the best of `limit` * 10 matches at
-- most come first, among those that this call has found. `after` is null at the end.
create or replace function public.turnlog_search_v1(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan' -- so that the filters given, and only those, choose the index
set enable_seqscan = off -- newest first by an index, so that a call can stop anywhere
set jit = off -- compiling takes longer than a page
as $$
declare
    in_project constant text := request ->> 'project';
    page_size constant integer := (request ->> 'limit')::integer;
    most_rows constant integer := (request ->> 'rows')::integer;
    ends_at constant timestamptz := clock_timestamp() + make_interval(secs => (request ->> 'ms')::double precision / 1000);
    best_first constant boolean := request ->> 'order' = 'match';
    window_size constant integer := 4000;  -- characters of a text that a hit carries, around the first term
    most_hits constant integer := case when best_first then page_size * 10 else page_size end;
    of_user constant text := request ->> 'user_id';
    unclaimed constant boolean := coalesce((request ->> 'unclaimed')::boolean, false);
    of_model constant text := request ->> 'model';
    not_before constant timestamptz := request ->> 'from';
    before constant timestamptz := request ->> 'to';
    after_at timestamptz := request #>> '{after,at}';
    after_session uuid := request #>> '{after,session_id}';
    after_id uuid := request #>> '{after,interaction_id}';
    first_look constant integer := coalesce((request ->> 'first')::integer, 0);
    terms constant text[] := array(
        select distinct public.turnlog_fold_v1(t.term) from jsonb_array_elements_text(request -> 'terms') as t (term)
         where public.turnlog_fold_v1(t.term) <> '');
    patterns constant text[] := array(
        select '%' || replace(replace(replace(t.term, '\', '\\'), '%', '\%'), '_', '\_') || '%' from unnest(terms) as t (term)
         order by length(t.term) desc);
    -- scripts that don't part their words, and Korean, whose particles hang on them, have no border to be checked
    unparted constant text := '[\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u9FFF\uAC00-\uD7AF\uF900-\uFAFF\U00020000-\U0003FFFF]';
    as_words constant text[] := array(
        select case when t.term ~ ('^' || unparted) then '' else '(?:^|[^[:alnum:]_])' end
            || regexp_replace(t.term, '([^[:alnum:]_\s])', '\\\1', 'g')
            || case when t.term ~ (unparted || '$') then '' else '(?:$|[^[:alnum:]_])' end
          from unnest(terms) as t (term));
    words_only constant boolean := coalesce((request ->> 'words')::boolean, false);
    sought constant integer[] := array(
        select distinct g.gram from unnest(terms) as t (term), unnest(public.turnlog_grams_v1(t.term)) as g (gram));
    most_sessions constant integer := 2000; -- what is in so many is read at once; more is looked through from the newest on
    having_it uuid[];            -- sessions that can have it, by the index
    among uuid[];                -- those that are looked through; null: all
    looked record;
    searched integer := 0;
    found jsonb := '[]';         -- places
    page_is_full boolean := false;
    is_cut boolean := false;
    goes_on boolean := false;
    next_at timestamptz;         -- the last place that was looked at first
    next_session uuid;
    next_id uuid;
    last_place jsonb;
begin
    if request ->> 'session_id' is not null then
        -- none that the caller may not see: how much was looked at would tell of it
        among := array(select s.id from public.ai_sessions as s
                        where s.project = in_project and s.id = (request ->> 'session_id')::uuid and s.erased_at is null
                              and (of_user is null or s.user_id = of_user) and (not unclaimed or s.claim is null));
    elsif of_user is not null then
        among := array(select s.id from public.ai_sessions as s
                        where s.project = in_project and s.user_id = of_user and s.erased_at is null
                              and (not unclaimed or s.claim is null)
                        limit most_sessions + 1);
    end if;
    if cardinality(among) > most_sessions then
        among := null; -- a user of many sessions is told from the others below
    end if;

    -- What is said often is among the newest; to find by the index all who said it would take longer. So they come first,
    -- and the index is asked for what is older than those.
    for pass in case when among is null and sought <> '{}' and first_look > 0 then 1 else 2 end .. 2 loop
        -- without its triggers the index lacks what was written: then all is looked through
        if pass = 2 and among is null and sought <> '{}' and 3 = (
            select count(*) from pg_catalog.pg_trigger as t
             where t.tgrelid = 'public.ai_interactions'::regclass
                   and t.tgname in ('ai_interactions_queue', 'ai_interactions_requeue', 'ai_interactions_unindex')
                   and (t.tgenabled = 'A' or t.tgenabled = 'O' and current_setting('session_replication_role') <> 'replica')) then
            having_it := array(select distinct q.session_id from public.ai_search_queue as q
                                where q.project = in_project limit most_sessions + 1);
            if cardinality(having_it) <= most_sessions then
                having_it := having_it || array(
                    select distinct s.session_id from public.ai_search as s
                     where s.project = in_project and (s.grams @> sought or s.grams @> '{-1}')
                     limit most_sessions + 1);
            end if;
            if cardinality(having_it) <= most_sessions then
                among := having_it;
            end if;
        end if;
        -- the filters stand in the list of what is read, not among the conditions: however few they leave, the clock is looked at
        for looked in
            select said.session_id, said.id, said.at,
                   case when said.said is null or octet_length(said.said) = length(said.said) then lower(said.said)
                        else public.turnlog_fold_v1(said.said) end as folded
              from (select place.session_id, place.id, place.at,
                           case when place.erased_at is null and (of_model is null or place.model = of_model)
                                 and (of_user is null and not unclaimed or exists (
                                     select from public.ai_sessions as s
                                      where s.project = in_project and s.id = place.session_id
                                        and (of_user is null or s.user_id = of_user)
                                        and (not unclaimed or s.claim is null)))
                                then concat_ws(E'\n',
                                    case jsonb_typeof(place.prompt) when 'string' then place.prompt #>> '{}'
                                         when 'array' then public.turnlog_text_v1(place.prompt) end,
                                    case jsonb_typeof(place.response) when 'string' then place.response #>> '{}'
                                         when 'array' then public.turnlog_text_v1(place.response) end)
                           end as said
                      from (select i.session_id, i.id, coalesce(i.started_at, i.created_at) as at,
                                   i.erased_at, i.model, i.prompt, i.response
                              from public.ai_interactions as i
                             where i.project = in_project
                               and (among is null or i.session_id = any (among))
                               and (not_before is null or coalesce(i.started_at, i.created_at) >= not_before)
                               and (before is null or coalesce(i.started_at, i.created_at) < before)
                               and (after_at is null or (coalesce(i.started_at, i.created_at), i.session_id, i.id)
                                                        < (after_at, after_session, after_id))
                             order by coalesce(i.started_at, i.created_at) desc, i.session_id desc, i.id desc
                             limit case pass when 1 then first_look end) as place
                    offset 0) as said
        loop
            if page_is_full or is_cut then
                goes_on := true;
                exit;
            end if;
            searched := searched + 1;
            if pass = 1 then
                next_at := looked.at;
                next_session := looked.session_id;
                next_id := looked.id;
            end if;
            if looked.folded is not null and looked.folded like all (patterns)
               and (not words_only or not exists (select from unnest(as_words) as w (word) where looked.folded !~ w.word)) then
                -- of a session that is being erased the rest is there still
                if not exists (select from public.ai_sessions as s
                                where s.project = in_project and s.id = looked.session_id and s.erased_at is not null) then
                    found := found || jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id,
                        'score', case when best_first then (
                            -- often said, as a word of its own, in a short text
                            select sum(least(5, (length(looked.folded) - length(replace(looked.folded, t.term, ''))) / length(t.term))
                                       + case when looked.folded ~ t.word then 5 else 0 end)
                                   / ln(10 + length(looked.folded))
                              from unnest(terms, as_words) as t (term, word)) end);
                    page_is_full := jsonb_array_length(found) >= most_hits;
                end if;
            end if;
            is_cut := searched >= most_rows or searched % 200 = 0 and clock_timestamp() > ends_at;
            if page_is_full or is_cut then
                last_place := jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id);
            end if;
        end loop;
        exit when goes_on or pass = 1 and searched < first_look;
        after_at := next_at;
        after_session := next_session;
        after_id := next_id;
    end loop;

    return jsonb_build_object(
        'hits', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'session_id', i.session_id, 'session_key', s.key, 'session_title', s.title, 'user_id', s.user_id,
                       'interaction_id', i.id, 'interaction_key', i.key, 'turn', i.turn, 'at', best.at, 'model', i.model,
                       'field', here.field, 'starts', coalesce(here.starts, 0), 'length', length(here.said),
                       'text', substr(here.said, 1 + here.starts, window_size))
                       order by best.rank), '[]')
              from (select row_number() over (order by f.score desc nulls last, f.n) as rank, f.*
                      from rows from (jsonb_to_recordset(found)
                               as (at timestamptz, session_id uuid, interaction_id uuid, score double precision))
                           with ordinality as f (at, session_id, interaction_id, score, n)
                     order by f.score desc nulls last, f.n
                     limit page_size) as best
              join public.ai_interactions as i
                on i.project = in_project and i.session_id = best.session_id and i.id = best.interaction_id
              join public.ai_sessions as s on s.project = in_project and s.id = i.session_id
              left join lateral (
                   -- What says more of the terms, and where the longest of those begins. Of a list of messages the last one
                   -- goes before the answer, and that before the rest: instructions, and what was said in turns before.
                   select side.field, side.said, side.begins + greatest(0, at.place - 1 - window_size / 2) as starts
                     from (select public.turnlog_text_v1(i.prompt) as prompt, public.turnlog_text_v1(i.response) as response,
                                  case jsonb_typeof(i.prompt) when 'array'
                                      then public.turnlog_text_v1(jsonb_build_array(i.prompt -> -1)) end as last_one
                          offset 0) as texts -- each is read once
                    cross join lateral (
                          values ('prompt', 1, texts.prompt, length(texts.prompt) - length(texts.last_one),
                                  public.turnlog_fold_v1(texts.last_one)),
                                 ('response', 2, texts.response, 0, public.turnlog_fold_v1(texts.response)),
                                 ('prompt', case when texts.last_one is null then 1 else 3 end, texts.prompt, 0,
                                  public.turnlog_fold_v1(texts.prompt))
                          ) as side (field, rank, said, begins, folded)
                    cross join lateral (
                          select count(*) filter (where found.place > 0) as terms,
                                 coalesce((array_agg(found.place order by found.place = 0, found.size desc))[1], 1) as place
                            from (select length(t.term) as size,
                                         case when words_only then regexp_instr(side.folded, t.word)
                                              else position(t.term in side.folded) end as place
                                    from unnest(terms, as_words) as t (term, word)) as found) as at
                    where side.folded <> ''
                    order by at.terms desc, side.rank
                    limit 1) as here on true),
        'after', case when goes_on then last_place end,
        'complete', not (goes_on and is_cut),
        'searched', searched,
        'matched', jsonb_array_length(found),
        'searched_to', last_place -> 'at');
end
$$;


-- Nobody but the service: row-level security without policies, all rights revoked. On Supabase the service is
-- service_role; elsewhere it is the role that owns these tables. Each migration ends with this, for what it made.
create or replace function public.turnlog_close_v1() returns void
language plpgsql volatile
set search_path = ''
as $$
declare
    object text;
    has_service_role constant boolean := exists (select from pg_catalog.pg_roles where rolname = 'service_role');
    others constant text := (
        select concat_ws(', ', 'public', string_agg(quote_ident(r.rolname), ', '))
          from pg_catalog.pg_roles as r
         where r.rolname in ('anon', 'authenticated'));
begin
    foreach object in array array['public.ai_projects', 'public.ai_keys', 'public.ai_session_folders', 'public.ai_sessions',
                                  'public.ai_session_participants', 'public.ai_interactions', 'public.ai_feedback',
                                  'public.ai_erased_users', 'public.ai_search', 'public.ai_search_queue'] loop
        execute format('alter table %s enable row level security', object);
        execute format('revoke all on table %s from %s', object, others);
        if has_service_role then
            execute format('grant select, insert, update, delete on table %s to service_role', object);
        end if;
    end loop;

    for object in
        select p.oid::regprocedure::text
          from pg_catalog.pg_proc as p
         where p.pronamespace = 'public'::regnamespace and p.proname like 'turnlog\_%'
    loop
        execute format('revoke all on function %s from %s', object, others);
        if has_service_role then
            execute format('grant execute on function %s to service_role', object);
        end if;
    end loop;
end
$$;


do $$ begin perform public.turnlog_close_v1(); end $$;

-- What was there before is indexed as well, once.
insert into public.ai_search_queue (project, session_id, id)
select i.project, i.session_id, i.id
  from public.ai_interactions as i
 where not exists (select from public.ai_search)
    on conflict do nothing;
