-- Searching what was said: the texts of prompts and responses, in any script.

-- What is looked through from the newest on; a plan may also take it for the time of an interaction.
create index if not exists ai_interactions_newest_idx
    on public.ai_interactions (project, (coalesce(started_at, created_at)) desc, session_id desc, id desc);


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
language sql immutable parallel safe
set search_path = ''
as $$
    select case jsonb_typeof(said) when 'string' then said #>> '{}' else (
        select string_agg(case jsonb_typeof(part.value) when 'string' then part.value #>> '{}' else part.value::text end,
                          E'\n' order by message.n, part.n)
          from jsonb_array_elements(said) with ordinality as message (value, n)
         cross join lateral (
               select found.value, found.n
                 from jsonb_path_query(message.value, 'lax $.content ? (@.type() == "string")') with ordinality as found (value, n)
               union all
               select found.value, 1000 + found.n
                 from jsonb_path_query(message.value, 'lax $.content[*].text ? (@.type() == "string")')
                      with ordinality as found (value, n)
               union all
               select found.value, 2000 + found.n
                 from jsonb_path_query(message.value, 'lax $.content[*].content ? (@.type() == "string")')
                      with ordinality as found (value, n)
               union all
               select found.value, 3000 + found.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.name') with ordinality as found (value, n)
               union all
               select found.value, 4000 + found.n
                 from jsonb_path_query(message.value, 'lax $.tool_calls[*].function.arguments')
                      with ordinality as found (value, n)) as part) end
$$;


-- What texts and terms are compared by: small letters, full-width forms and ligatures as the plain ones, letters and
-- their accents composed, and without marks that nobody sees (soft hyphens, joiners, signs of direction).
create or replace function public.turnlog_fold_v1(said text) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select case when octet_length(said) = length(said) then lower(said)
        else replace(lower(case
            when said ~ '[\u00AD\u061C\u200B-\u200F\u202A-\u202E\u2060\u2066-\u2069\uFE0E\uFE0F\uFEFF]'
                then translate(normalize(said, nfkc),
                    U&'\00AD\061C\200B\200C\200D\200E\200F\202A\202B\202C\202D\202E\2060\2066\2067\2068\2069\FE0E\FE0F\FEFF', '')
            when said is nfkc normalized then said -- mostly, and to look takes half as long
            else normalize(said, nfkc) end), U&'\03C2', U&'\03C3') end -- a final sigma is a sigma
$$;


-- {project, terms, limit, rows, ms, order, words?, user_id?, unclaimed?, session_id?, model?, from?, to?, after?: {at,
-- session_id, interaction_id}} -> {hits, after, complete, searched, matched, searched_to}: interactions that say all the
-- terms (or any, without terms), newest first by their started_at, or created_at where the caller gave none. `words`: as whole words only.
--
-- A call looks at `rows` interactions at most, for about `ms` milliseconds, so that none hangs: it answers what it found
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
    after_at constant timestamptz := request #>> '{after,at}';
    after_session constant uuid := request #>> '{after,session_id}';
    after_id constant uuid := request #>> '{after,interaction_id}';
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
    among uuid[];                -- sessions, where only some can have it
    looked record;
    searched integer := 0;
    found jsonb := '[]';         -- places
    page_is_full boolean := false;
    is_cut boolean := false;
    goes_on boolean := false;
    last_place jsonb;
begin
    if request ->> 'session_id' is not null then
        among := array[(request ->> 'session_id')::uuid];
    elsif of_user is not null then
        among := array(select s.id from public.ai_sessions as s
                        where s.project = in_project and s.user_id = of_user and s.erased_at is null limit 2001);
        if cardinality(among) > 2000 then
            among := null; -- a user of so many is found among all
        end if;
    end if;

    -- the filters stand in the list of what is read, not among the conditions: however few they leave, the clock is looked at
    for looked in
        select place.session_id, place.id, place.at,
               case when place.said is null or octet_length(place.said) = length(place.said) then lower(place.said)
                    else public.turnlog_fold_v1(place.said) end as folded
          from (select i.session_id, i.id, coalesce(i.started_at, i.created_at) as at,
                       case when i.erased_at is null and (of_model is null or i.model = of_model)
                             and (of_user is null and not unclaimed or exists (
                                 select from public.ai_sessions as s
                                  where s.project = in_project and s.id = i.session_id
                                    and (of_user is null or s.user_id = of_user)
                                    and (not unclaimed or s.claim is null)))
                            then concat_ws(E'\n',
                                case jsonb_typeof(i.prompt) when 'string' then i.prompt #>> '{}'
                                     when 'array' then public.turnlog_text_v1(i.prompt) end,
                                case jsonb_typeof(i.response) when 'string' then i.response #>> '{}'
                                     when 'array' then public.turnlog_text_v1(i.response) end)
                       end as said
                  from public.ai_interactions as i
                 where i.project = in_project
                   and (among is null or i.session_id = any (among))
                   and (not_before is null or coalesce(i.started_at, i.created_at) >= not_before)
                   and (before is null or coalesce(i.started_at, i.created_at) < before)
                   and (after_at is null or (coalesce(i.started_at, i.created_at), i.session_id, i.id)
                                            < (after_at, after_session, after_id))
                 order by coalesce(i.started_at, i.created_at) desc, i.session_id desc, i.id desc
                offset 0) as place
    loop
        if page_is_full or is_cut then
            goes_on := true;
            exit;
        end if;
        searched := searched + 1;
        if looked.folded is not null and looked.folded like all (patterns)
           and (not words_only or not exists (select from unnest(as_words) as w (word) where looked.folded !~ w.word)) then
            found := found || jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id,
                'score', case when best_first then (
                    -- often said, as a word of its own, in a short text
                    select sum(least(5, (length(looked.folded) - length(replace(looked.folded, t.term, ''))) / length(t.term))
                               + case when looked.folded ~ t.word then 5 else 0 end)
                           / ln(10 + length(looked.folded))
                      from unnest(terms, as_words) as t (term, word)) end);
            page_is_full := jsonb_array_length(found) >= most_hits;
        end if;
        is_cut := searched >= most_rows or searched % 200 = 0 and clock_timestamp() > ends_at;
        if page_is_full or is_cut then
            last_place := jsonb_build_object('at', looked.at, 'session_id', looked.session_id, 'interaction_id', looked.id);
        end if;
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
                   -- the side that says more of the terms, and where the longest of those begins
                   select side.field, side.said, greatest(0, coalesce((
                              select position(t.term in side.folded) from unnest(terms) as t (term)
                               order by position(t.term in side.folded) = 0, length(t.term) desc limit 1), 1)
                              - 1 - window_size / 2) as starts
                     from (select 'prompt' as field, public.turnlog_text_v1(i.prompt) as said,
                                  public.turnlog_fold_v1(public.turnlog_text_v1(i.prompt)) as folded
                           union all
                           select 'response', public.turnlog_text_v1(i.response),
                                  public.turnlog_fold_v1(public.turnlog_text_v1(i.response))) as side
                    where side.said is not null
                    order by (select count(*) from unnest(terms) as t (term) where position(t.term in side.folded) > 0) desc,
                             side.field
                    limit 1) as here on true),
        'after', case when goes_on then last_place end,
        'complete', not (goes_on and is_cut),
        'searched', searched,
        'matched', jsonb_array_length(found),
        'searched_to', last_place -> 'at');
end
$$;


do $$ begin perform public.turnlog_close_v1(); end $$;
