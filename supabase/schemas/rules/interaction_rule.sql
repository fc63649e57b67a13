-- The rule for interactions: compares an incoming record with the stored one, both as jsonb without ids. Most fields are
-- facts: see turnlog.fill_rule. The answer's fields (response, error, finish reason, end, latency, output tokens, cost)
-- go together and move forward:
--
-- - A status moves from pending to abandoned, failed and completed. A record without one is failed by an error,
--   completed by a response; one with neither prompt nor answer speaks of the finished answer.
-- - Of two records, the one with the further status has its say, of the same status the one whose response has grown:
--   see turnlog.grows. The other one fills what it leaves empty.
-- - Failed and abandoned ones are attempts: they contradict nothing that comes of another one. Of two attempts the one
--   said last is shown. What is known of the call (model, provider, input tokens) gives way to what a record says that
--   is no attempt, and the interaction began with the first.
--
-- With `on_conflict` 'revise' another rule holds: see turnlog.revision_rule.
--
-- Takes `said_at`, when the incoming record was said. Returns `fills`: fields with their new values, null if nothing
-- changes; `filled`: those that the receipt names; `conflicts`: names of contradicting fields, null if there are none;
-- `is_older`: the stored record is further; `lost`: [{facts, said_at}], what isn't shown any more, or never is, and isn't
-- contained in what is; `revised`: the fields in which a revision contradicts, null without one.
--
-- In which order records arrive doesn't matter. That takes to know how far the record was that a field comes from:
-- `ranks` has, by field, [status, length of the response, when it was said], where that isn't the row's own.
create or replace function turnlog.interaction_rule(
    stored jsonb, incoming jsonb, on_conflict text, said_at timestamptz,
    out fills jsonb, out filled text[], out conflicts text[], out is_older boolean, out lost jsonb,
    out revised text[])
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    of_answer constant text[] :=
        '{response,error,finish_reason,completed_at,latency_ms,time_to_first_token_ms,output_tokens,reasoning_tokens,cost_usd}';
    of_call constant text[] := '{started_at,model,provider,input_tokens,cached_input_tokens,cache_write_tokens}';
    names constant text[] := '{pending,abandoned,failed,completed}';
    attempts constant integer[] := '{1,2}';
    has_response constant boolean := coalesce(jsonb_typeof(incoming -> 'response'), 'null') <> 'null';
    is_answered constant boolean := coalesce(jsonb_typeof(stored -> 'response'), 'null') <> 'null';
    is_alone constant boolean := not has_response and coalesce(incoming ->> 'status', incoming ->> 'error') is null
                                 and coalesce(jsonb_typeof(incoming -> 'prompt'), 'null') = 'null';
    stored_status constant integer := turnlog.status_rank(stored ->> 'status', stored ->> 'error', is_answered);
    status constant integer := turnlog.status_rank(
        case when is_alone then 'completed' else incoming ->> 'status' end, incoming ->> 'error', has_response);
    -- a row that has nothing but facts of the finished answer
    row_status constant integer := case when not is_answered and coalesce(stored ->> 'status', stored ->> 'error') is null
        and coalesce(jsonb_typeof(stored -> 'prompt'), 'null') = 'null' then 3 else stored_status end;
    -- of a response that came with the row's status
    row_length constant integer := case when is_answered and coalesce((stored #>> '{ranks,response,0}')::integer, row_status) = row_status
                                        then length(turnlog.as_messages(stored -> 'response')::text) end;
    row_said_at constant timestamptz := coalesce(
        stored ->> 'completed_at', stored ->> 'started_at', stored ->> 'created_at');
    own_length constant integer := case when has_response then length(turnlog.as_messages(incoming -> 'response')::text) end;
    ranks jsonb := coalesce(nullif(stored -> 'ranks', 'null'), '{}');
    field text;
    value jsonb;
    stored_value jsonb;
    rank jsonb;             -- of the stored value
    rank_status integer;
    own_status integer;     -- of the incoming value
    rank_length integer;
    rank_said_at timestamptz;
    comparison integer;     -- 1: the incoming value has its say, -1: the stored one, 0: they contradict each other
    is_of_attempt boolean;  -- one of the two values is an attempt's
    has_grown boolean;      -- the stored response is an earlier state of the incoming one
    is_earlier boolean;     -- the other way round
    is_text boolean;        -- it is kept if it isn't shown
    displaced jsonb := '{}';    -- field -> stored value
    displaced_at timestamptz;
    outranked jsonb := '{}';    -- field -> incoming value
    loses_text boolean := false;    -- a text of `displaced`
    outranks_text boolean := false; -- a text of `outranked`
    new_ranks jsonb := '{}';
    new_status integer;
    status_name text;
    new_length integer;
    changed jsonb;
    contradicting text[];
begin
    if on_conflict = 'revise' then
        select r.* into fills, filled, conflicts, is_older, lost, revised
          from turnlog.revision_rule(stored, incoming, said_at) as r;
        return;
    end if;
    is_older := false;
    if stored ->> 'erased_at' is not null then
        conflicts := '{erased_at}';
        return;
    elsif turnlog.is_expired(stored, incoming) then
        conflicts := '{text_expired_at}';
        return;
    end if;
    fills := '{}';
    conflicts := '{}';
    for field, value in
        select s.key, s.value from jsonb_each(incoming) as s
         where s.value not in ('null', '[]', '{}') and s.key not in ('status', 'ranks', 'created_at')
    loop
        stored_value := nullif(stored -> field, 'null');
        if field = 'error' and value = '""' and stored_value is not null then
            continue;
        elsif stored_value is null or field = 'error' and stored_value = '""' then
            comparison := 1;
        elsif stored_value = value then
            comparison := null;
        elsif field in ('tags', 'metadata', 'chosen_at') then
            select f.fills, coalesce(f.conflicts, '{}') into changed, contradicting
              from turnlog.fill_rule(jsonb_build_object(field, stored_value), jsonb_build_object(field, value)) as f;
            fills := fills || coalesce(changed, '{}');
            conflicts := conflicts || contradicting;
            continue;
        elsif field = 'context' then
            if turnlog.says_more(value, stored_value) then
                fills := fills || jsonb_build_object(field, value);
            else
                is_older := true;
            end if;
            continue;
        else
            comparison := 0;
        end if;
        rank := ranks -> field;
        rank_status := coalesce((rank ->> 0)::integer, row_status);
        own_status := status;
        if field = any (of_call) then -- they go with no status but those of attempts
            rank_status := case when rank_status = any (attempts) then rank_status else 3 end;
            own_status := case when status = any (attempts) then status else 3 end;
        end if;
        rank_length := case when rank is not null then (rank ->> 1)::integer when rank_status = row_status then row_length end;
        rank_said_at := coalesce((rank ->> 2)::timestamptz, row_said_at);
        is_of_attempt := own_status = any (attempts) or rank_status = any (attempts);

        if comparison = 0 and field = 'started_at' and is_of_attempt then
            -- it began with the first attempt
            comparison := case when (value #>> '{}')::timestamptz < (stored_value #>> '{}')::timestamptz then 1 else -1 end;
        elsif comparison = 0 then
            if field <> all (of_answer) and not (field = any (of_call) and is_of_attempt) then
                conflicts := conflicts || field;
                continue;
            end if;
            if field = 'response' then
                has_grown := turnlog.grows(turnlog.as_messages(stored_value), turnlog.as_messages(value));
                is_earlier := turnlog.grows(turnlog.as_messages(value), turnlog.as_messages(stored_value));
            else
                has_grown := false;
                is_earlier := false;
            end if;
            if own_status <> rank_status then
                comparison := sign(own_status - rank_status);
                is_text := field in ('response', 'error');
            elsif is_of_attempt then
                comparison := case when (said_at, value::text collate "C") > (rank_said_at, stored_value::text collate "C")
                                   then 1 else -1 end;
                is_text := true; -- what another attempt said is kept, whatever it is
            elsif field = 'response' then
                comparison := case when has_grown then 1 when is_earlier then -1 else 0 end;
                is_text := true;
            else
                comparison := coalesce(sign(own_length - rank_length), 0);
                is_text := field = 'error';
            end if;
            if comparison = 0 then
                conflicts := conflicts || field;
                continue;
            elsif comparison > 0 then
                displaced := displaced || jsonb_build_object(field, stored_value);
                displaced_at := greatest(displaced_at, rank_said_at);
                loses_text := loses_text or is_text and not has_grown;
            else
                is_older := true;
                outranked := outranked || jsonb_build_object(field, value);
                outranks_text := outranks_text or is_text and not is_earlier;
            end if;
        end if;
        if comparison > 0 then
            fills := fills || jsonb_build_object(field, value);
        end if;
        -- the rank of the value that is stored now
        if comparison > 0 or comparison is null and (
               (field = any (of_answer) or field = any (of_call))
               and (own_status > rank_status
                    or own_status = rank_status and case when own_status = any (attempts) then said_at > rank_said_at
                                                         else own_length > rank_length end)) then
            new_ranks := new_ranks || jsonb_build_object(field, jsonb_build_array(
                own_status, own_length, case when status = any (attempts) then said_at end));
        end if;
    end loop;

    new_status := case when has_response or coalesce(incoming ->> 'status', nullif(incoming ->> 'error', '')) is not null
                       then greatest(stored_status, status) else stored_status end;
    is_older := is_older or incoming ->> 'status' is not null and status < stored_status;
    if conflicts <> '{}' and coalesce(on_conflict, 'keep') not in ('fill', 'report') then
        fills := null;
        return;
    end if;

    -- a status that follows from the rest isn't stored, so that the same row results in whichever way it became known
    changed := stored || fills;
    status_name := case when new_status <> turnlog.status_rank(null, changed ->> 'error', is_answered or has_response)
                        then names[new_status + 1] end;
    if status_name is distinct from stored ->> 'status' then
        fills := fills || jsonb_build_object('status', status_name);
    end if;
    filled := array(select f from jsonb_object_keys(fills) as f where f <> 'status' or new_status <> stored_status order by f);
    if fills = '{}' and new_ranks = '{}' then
        fills := null;
    else
        -- ranks that are those of the row itself are left out
        new_length := case when coalesce((new_ranks #>> '{response,0}')::integer,
                                         (ranks #>> '{response,0}')::integer, row_status) = new_status
                           then case when fills ? 'response' then own_length
                                     else length(turnlog.as_messages(stored -> 'response')::text) end end;
        select nullif(coalesce(jsonb_object_agg(r.field, r.rank), '{}') || (ranks - (of_answer || of_call)), '{}')
          into new_ranks
          from (select f.field, coalesce(new_ranks -> f.field, ranks -> f.field, jsonb_build_array(
                           case when f.field = any (of_call) and row_status <> all (attempts) then 3 else row_status end,
                           row_length, case when row_status = any (attempts) then row_said_at end)) as rank
                  from jsonb_object_keys(changed) as f (field)
                 where f.field = any (of_answer || of_call) and changed -> f.field <> 'null') as r
         where r.rank ->> 2 is not null
            or r.field = any (of_answer)
               and ((r.rank ->> 0)::integer <> new_status or (r.rank ->> 1)::integer is distinct from new_length)
            or r.field = any (of_call)
               and (r.rank ->> 0)::integer <> case when new_status = any (attempts) then new_status else 3 end;
        if new_ranks is distinct from nullif(stored -> 'ranks', 'null') then
            fills := fills || jsonb_build_object('ranks', new_ranks);
        end if;
        fills := nullif(fills, '{}');
    end if;

    lost := '[]';
    if loses_text then
        lost := lost || jsonb_build_object(
            'facts', displaced || jsonb_build_object('status', names[coalesce(
                (ranks #>> '{response,0}')::integer, (ranks #>> '{error,0}')::integer, row_status) + 1]),
            'said_at', displaced_at);
    end if;
    if outranks_text then
        lost := lost || jsonb_build_object(
            'facts', outranked || jsonb_build_object('status', names[status + 1]), 'said_at', said_at);
    end if;
    lost := nullif(lost, '[]');
    conflicts := nullif(conflicts, '{}');
end
$$;
