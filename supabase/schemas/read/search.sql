-- {project, terms, limit, rows, ms, order, first?, words?, user_id?, unclaimed?, session_id?, model?, from?, to?, after?: {at,
-- session_id, interaction_id}} -> {interactions, after, complete, searched, matched, searched_to}: interactions that say all the
-- terms (or any, without terms), newest first by their started_at, or created_at where the caller gave none. `words`: as whole words only.
--
-- A call looks at `rows` interactions at most, for about `ms` milliseconds, so that none hangs (`first`
-- newest ones before it asks the index): it answers what it found
-- and where to go on, and `complete` is false if it ended so. With `order` match the best of `limit` * 10 matches at
-- most come first, among those that this call has found. `after` is null at the end.
create or replace function turnlog.search(request jsonb) returns jsonb
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
        select distinct turnlog.fold(t.term) from jsonb_array_elements_text(request -> 'terms') as t (term)
         where turnlog.fold(t.term) <> '');
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
        select distinct g.gram from unnest(terms) as t (term), unnest(turnlog.grams(t.term)) as g (gram));
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
        among := array(select s.id from turnlog.ai_sessions as s
                        where s.project = in_project and s.id = (request ->> 'session_id')::uuid and s.erased_at is null
                              and (of_user is null or s.user_id = of_user) and (not unclaimed or s.claim is null));
    elsif of_user is not null then
        among := array(select s.id from turnlog.ai_sessions as s
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
        if pass = 2 and among is null and sought <> '{}' then
            having_it := array(select distinct q.session_id from turnlog.ai_search_queue as q
                                where q.project = in_project limit most_sessions + 1);
            if cardinality(having_it) <= most_sessions then
                having_it := having_it || array(
                    select distinct s.session_id from turnlog.ai_search as s
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
                        else turnlog.fold(said.said) end as folded
              from (select place.session_id, place.id, place.at,
                           case when place.erased_at is null and (of_model is null or place.model = of_model)
                                 and (of_user is null and not unclaimed or exists (
                                     select from turnlog.ai_sessions as s
                                      where s.project = in_project and s.id = place.session_id
                                        and (of_user is null or s.user_id = of_user)
                                        and (not unclaimed or s.claim is null)))
                                then concat_ws(E'\n',
                                    case jsonb_typeof(place.prompt) when 'string' then place.prompt #>> '{}'
                                         when 'array' then turnlog.plain_text(place.prompt) end,
                                    case jsonb_typeof(place.response) when 'string' then place.response #>> '{}'
                                         when 'array' then turnlog.plain_text(place.response) end)
                           end as said
                      from (select i.session_id, i.id, coalesce(i.started_at, i.created_at) as at,
                                   i.erased_at, i.model, i.prompt, i.response
                              from turnlog.ai_interactions as i
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
                if not exists (select from turnlog.ai_sessions as s
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
        'interactions', (
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
              join turnlog.ai_interactions as i
                on i.project = in_project and i.session_id = best.session_id and i.id = best.interaction_id
              join turnlog.ai_sessions as s on s.project = in_project and s.id = i.session_id
              left join lateral (
                   -- What says more of the terms, and where the longest of those begins. Of a list of messages the last one
                   -- goes before the answer, and that before the rest: instructions, and what was said in turns before.
                   select side.field, side.said, side.begins + greatest(0, at.place - 1 - window_size / 2) as starts
                     from (select turnlog.plain_text(i.prompt) as prompt, turnlog.plain_text(i.response) as response,
                                  case jsonb_typeof(i.prompt) when 'array'
                                      then turnlog.plain_text(jsonb_build_array(i.prompt -> -1)) end as last_one
                          offset 0) as texts -- each is read once
                    cross join lateral (
                          values ('prompt', 1, texts.prompt, length(texts.prompt) - length(texts.last_one),
                                  turnlog.fold(texts.last_one)),
                                 ('response', 2, texts.response, 0, turnlog.fold(texts.response)),
                                 ('prompt', case when texts.last_one is null then 1 else 3 end, texts.prompt, 0,
                                  turnlog.fold(texts.prompt))
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
