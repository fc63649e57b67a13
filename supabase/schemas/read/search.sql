-- Finds interactions that contain all terms (any interaction, without terms), newest first by their started_at, or
-- created_at without one. `words`: match whole words only.
-- Takes {project, terms, limit, rows, ms, order, first?, words?, user_id?, unclaimed?, session_id?, model?, from?, to?,
-- after?: {at, session_id, interaction_id}}. Returns {interactions, after, complete, searched, matched, searched_to,
-- keep_text_days}: the project's own setting, since texts that have expired aren't found.
--
-- A call scans at most `rows` interactions, for about `ms` milliseconds, so that none hangs (the `first` newest ones
-- before it uses the index). It returns what it found and where to go on; `complete` is false if it hit a limit. With
-- `order` 'match' the best come first, of at most `limit` * 10 matches of this call. `after` is null at the end.
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
    window_size constant integer := 4000;  -- characters of the extract around the first term
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
    -- scripts without spaces, and Korean, whose particles are suffixes, have no word boundaries to check
    unparted constant text := '[\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u9FFF\uAC00-\uD7AF\uF900-\uFAFF\U00020000-\U0003FFFF]';
    as_words constant text[] := array(
        select case when t.term ~ ('^' || unparted) then '' else '(?:^|[^[:alnum:]_])' end
            || regexp_replace(t.term, '([^[:alnum:]_\s])', '\\\1', 'g')
            || case when t.term ~ (unparted || '$') then '' else '(?:$|[^[:alnum:]_])' end
          from unnest(terms) as t (term));
    words_only constant boolean := coalesce((request ->> 'words')::boolean, false);
    sought constant integer[] := array(
        select distinct g.gram from unnest(terms) as t (term), unnest(turnlog.grams(t.term)) as g (gram));
    most_sessions constant integer := 2000; -- up to this number they are read at once; beyond it, scan from the newest on
    having_it uuid[];            -- sessions that may match, by the index
    among uuid[];                -- the sessions to scan; null: all
    looked record;
    searched integer := 0;
    found jsonb := '[]';         -- cursors of matches, with scores
    page_is_full boolean := false;
    is_cut boolean := false;
    goes_on boolean := false;
    next_at timestamptz;         -- the last position of the first pass
    next_session uuid;
    next_id uuid;
    last_place jsonb;
    best record;
    hit record;
    here record;
    hits jsonb := '[]';
begin
    if request ->> 'session_id' is not null then
        -- only a session that the caller may read: the counts would reveal another one
        among := array(select s.id from turnlog.ai_sessions as s
                        where s.project = in_project and s.id = (request ->> 'session_id')::uuid and s.erased_at is null
                              and (of_user is null or s.user_id = of_user) and (not unclaimed or s.claim is null or 'user_id' = any (s.edited)));
    elsif of_user is not null then
        among := array(select s.id from turnlog.ai_sessions as s
                        where s.project = in_project and s.user_id = of_user and s.erased_at is null
                              and (not unclaimed or s.claim is null or 'user_id' = any (s.edited))
                        limit most_sessions + 1);
    end if;
    if cardinality(among) > most_sessions then
        among := null; -- too many: the scan below filters by user instead
    end if;

    -- Frequent terms occur among the newest interactions, where a scan is faster than the index. So pass 1 scans these, and
    -- pass 2 uses the index for older ones.
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
        -- the filters are in the select list, not in the where clause: so the clock is checked however few rows they leave
        for looked in
            select scanned.session_id, scanned.id, scanned.at, scanned.prompt, scanned.response, scanned.ends,
                   case when scanned.content is null or octet_length(scanned.content) = length(scanned.content) then lower(scanned.content)
                        else turnlog.fold(scanned.content) end as folded
              from (select place.session_id, place.id, place.at,
                           case when place.erased_at is null and (of_model is null or place.model = of_model)
                                 and (of_user is null and not unclaimed or exists (
                                     select from turnlog.ai_sessions as s
                                      where s.project = in_project and s.id = place.session_id
                                        and (of_user is null or s.user_id = of_user)
                                        and (not unclaimed or s.claim is null or 'user_id' = any (s.edited))))
                                then case when place.text_expired_at is not null then '' else concat_ws(E'\n',
                                    case jsonb_typeof(place.prompt) when 'string' then place.prompt #>> '{}'
                                         when 'array' then turnlog.plain_text(place.prompt) end,
                                    case jsonb_typeof(place.response) when 'string' then place.response #>> '{}'
                                         when 'array' then turnlog.plain_text(place.response) end) end
                           end as content,
                           case when place.ends is not null then place.prompt end as prompt,
                           case when place.ends is not null then place.response end as response,
                           place.ends
                      from (select i.session_id, i.id, coalesce(i.started_at, i.created_at) as at,
                                   i.erased_at, i.text_expired_at, i.model, i.prompt, i.response,
                                   case when i.prompt_end is not null
                                        then array[i.context_end, i.prompt_end, i.response_end,
                                                   case when i.context is null then i.instructions end] end as ends
                              from turnlog.ai_interactions as i
                             where i.project = in_project
                               and (among is null or i.session_id = any (among))
                               and (not_before is null or coalesce(i.started_at, i.created_at) >= not_before)
                               and (before is null or coalesce(i.started_at, i.created_at) < before)
                               and (after_at is null or (coalesce(i.started_at, i.created_at), i.session_id, i.id)
                                                        < (after_at, after_session, after_id))
                             order by coalesce(i.started_at, i.created_at) desc, i.session_id desc, i.id desc
                             limit case pass when 1 then first_look end) as place
                    offset 0) as scanned
        loop
            if page_is_full or is_cut then
                goes_on := true;
                exit;
            end if;
            searched := searched + 1;
            if looked.ends is not null and looked.folded is not null then
                -- by queries of their own: see turnlog.with_messages
                looked.folded := turnlog.fold(concat_ws(E'\n',
                    turnlog.plain_text(turnlog.content(
                        looked.prompt, in_project, looked.session_id, looked.ends[2], looked.ends[1], looked.ends[3],
                        looked.ends[4])),
                    turnlog.plain_text(turnlog.content(
                        looked.response, in_project, looked.session_id, looked.ends[3], looked.ends[2]))));
            end if;
            if pass = 1 then
                next_at := looked.at;
                next_session := looked.session_id;
                next_id := looked.id;
            end if;
            if looked.folded is not null and looked.folded like all (patterns)
               and (not words_only or not exists (select from unnest(as_words) as w (word) where looked.folded !~ w.word)) then
                -- a session that is being erased may still have interactions
                if not exists (select from turnlog.ai_sessions as s
                                where s.project = in_project and s.id = looked.session_id and s.erased_at is not null) then
                    found := found || jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id,
                        'score', case when best_first then (
                            -- frequent, as a whole word, in a short text
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

    for best in
        select f.at, f.session_id, f.interaction_id
          from rows from (jsonb_to_recordset(found)
                   as (at timestamptz, session_id uuid, interaction_id uuid, score double precision))
               with ordinality as f (at, session_id, interaction_id, score, n)
         order by f.score desc nulls last, f.n
         limit page_size
    loop
        select case when i.text_expired_at is null then i.prompt end as prompt,
               case when i.text_expired_at is null then i.response end as response, i.context_end, i.prompt_end, i.response_end,
               case when i.context is null then i.instructions end as instructions, jsonb_build_object(
                   'session_id', i.session_id, 'session_key', s.key, 'session_title', s.title, 'user_id', s.user_id,
                   'interaction_id', i.id, 'interaction_key', i.key, 'turn', i.turn, 'at', best.at, 'model', i.model) as facts
          into hit
          from turnlog.ai_interactions as i
          join turnlog.ai_sessions as s on s.project = in_project and s.id = i.session_id
         where i.project = in_project and i.session_id = best.session_id and i.id = best.interaction_id;
        hit.prompt := turnlog.content(
            hit.prompt, in_project, best.session_id, hit.prompt_end, hit.context_end, hit.response_end, hit.instructions);
        hit.response := turnlog.content(hit.response, in_project, best.session_id, hit.response_end, hit.prompt_end);
        -- The field with more of the terms, from the first occurrence of the longest one on. Of equal fields the last
        -- message of the prompt comes first, then the response, then the earlier messages: instructions and history.
        select side.field, side.content, side.begins + greatest(0, at.place - 1 - window_size / 2) as starts
          into here
          from (select turnlog.plain_text(hit.prompt) as prompt, turnlog.plain_text(hit.response) as response,
                       case jsonb_typeof(hit.prompt) when 'array'
                           then turnlog.plain_text(jsonb_build_array(hit.prompt -> -1)) end as last_one
                offset 0) as texts -- read each once
         cross join lateral (
               values ('prompt', 1, texts.prompt, length(texts.prompt) - length(texts.last_one),
                       turnlog.fold(texts.last_one)),
                      ('response', 2, texts.response, 0, turnlog.fold(texts.response)),
                      ('prompt', case when texts.last_one is null then 1 else 3 end, texts.prompt, 0,
                       turnlog.fold(texts.prompt))
               ) as side (field, rank, content, begins, folded)
         cross join lateral (
               select count(*) filter (where found.place > 0) as terms,
                      coalesce((array_agg(found.place order by found.place = 0, found.size desc))[1], 1) as place
                 from (select length(t.term) as size,
                              case when words_only then regexp_instr(side.folded, t.word)
                                   else position(t.term in side.folded) end as place
                         from unnest(terms, as_words) as t (term, word)) as found) as at
         where side.folded <> ''
         order by at.terms desc, side.rank
         limit 1;
        hits := hits || (hit.facts || jsonb_build_object(
            'field', here.field, 'starts', coalesce(here.starts, 0), 'length', length(here.content),
            'text', substr(here.content, 1 + here.starts, window_size)));
    end loop;
    return jsonb_build_object(
        'interactions', hits,
        'after', case when goes_on then last_place end,
        'complete', not (goes_on and is_cut),
        'searched', searched,
        'matched', jsonb_array_length(found),
        'searched_to', last_place -> 'at',
        'keep_text_days', (select p.keep_text_days from turnlog.ai_projects as p where p.project = in_project));
end
$$;
