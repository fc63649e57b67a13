-- The rule for a record that is sent with `on_conflict` 'revise'. It takes the place of turnlog.interaction_rule, and has
-- its arguments and results. Of the content (see turnlog.statement) nothing contradicts:
--
-- - Field by field, the value said last is shown; of the same time the one of the longer response, then the greater text.
--   As always, a further status has its say over the answer, and what is known of the call gives way to a record that is
--   no attempt.
-- - What isn't shown any more, or never is, becomes a revision, unless what is shown contains it: the whole statement, so
--   that a revision tells which answer went with which question.
-- - Whose it is and where it stands (key, participant, turn, what it follows) contradicts as always. It began with what
--   began first, so it keeps its place. So does metadata that would have more than 1,000 keys.
--
-- Each field has the greatest of its values, so the order in which records arrive doesn't matter if all say when they
-- were said. `ranks` has [status, length of the response, time] of the record that a value came with, where these aren't
-- the row's own. A record without a time whose answer is an earlier state of the stored one was said before it.
create or replace function turnlog.revision_rule(
    stored jsonb, incoming jsonb, said_at timestamptz,
    out fills jsonb, out filled text[], out conflicts text[], out is_older boolean, out lost jsonb, out revised text[])
language plpgsql immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
    of_answer constant text[] :=
        '{response,error,finish_reason,completed_at,latency_ms,time_to_first_token_ms,output_tokens,reasoning_tokens,cost_usd}';
    of_call constant text[] := '{model,provider,input_tokens,cached_input_tokens,cache_write_tokens}';
    names constant text[] := '{pending,abandoned,failed,completed}';
    attempts constant integer[] := '{1,2}';
    ranks constant jsonb := coalesce(nullif(stored -> 'ranks', 'null'), '{}');
    was constant record := turnlog.record_rank(stored, ranks);
    own constant record := turnlog.record_rank(incoming, '{}');
    stored_statement constant jsonb := turnlog.statement(stored);
    own_statement constant jsonb := turnlog.statement(incoming);
    is_earlier_state constant boolean := coalesce(incoming ->> 'completed_at', incoming ->> 'started_at') is null
        and own_statement -> 'response' <> stored_statement -> 'response'
        and turnlog.grows(turnlog.as_messages(own_statement -> 'response'),
                          turnlog.as_messages(stored_statement -> 'response'));
    content jsonb;          -- the fields of the content that change
    new_ranks jsonb;        -- field -> [status, length, time], of every field of the content
    displaced text[];
    displaced_at timestamptz;
    outranked text[];
    changed jsonb;          -- the row afterwards
    is_now record;
    stored_status integer;
    new_status integer;
    status_name text;
begin
    is_older := false;
    if stored is null or incoming is null then
        return;
    elsif stored ->> 'erased_at' is not null then
        conflicts := '{erased_at}';
        return;
    elsif turnlog.is_expired(stored, incoming) then
        conflicts := '{text_expired_at}';
        return;
    end if;
    select r.fills, r.conflicts into fills, conflicts
      from turnlog.fill_rule(stored, (
          select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(incoming) as e
           where e.key = any ('{key,participant,reply_to,alternative_to,turn,tags,chosen_at}'))) as r;
    if conflicts is not null then
        fills := null;
        return;
    end if;

    with fields as (
        select f.field, stored_statement -> f.field as stored, own_statement -> f.field as own, ranks -> f.field as rank,
               f.field = any (of_answer) as is_of_answer
          from jsonb_object_keys(stored_statement || own_statement) as f (field)
    ), ranked as (
        select f.*,
               coalesce((f.rank ->> 0)::integer, was.status) as was_status,
               case when f.is_of_answer and f.rank is not null then (f.rank ->> 1)::integer
                    when f.is_of_answer then was.length end as was_length,
               coalesce((f.rank ->> 2)::timestamptz, was.said_at) as was_said_at,
               case when f.is_of_answer then own.length end as own_length,
               case when f.is_of_answer and is_earlier_state then least(said_at, was.said_at) else said_at end as own_said_at
          from fields as f
    ), compared as (
        select r.*, s.was_status as by_status, s.own_status,
               case when r.own is null then false
                    when r.stored is null then true
                    else (s.own_status, r.own_said_at, coalesce(r.own_length, -1), r.own::text collate "C")
                       > (s.was_status, r.was_said_at, coalesce(r.was_length, -1), r.stored::text collate "C") end as is_greater
          from ranked as r
         cross join lateral (
               -- what goes with no answer has no status; what is known of the call has those of attempts
               select case when r.is_of_answer or r.field = any (of_call) and r.was_status = any (attempts)
                           then r.was_status else 3 end as was_status,
                      case when r.is_of_answer or r.field = any (of_call) and own.status = any (attempts)
                           then own.status else 3 end as own_status) as s
    )
    select coalesce(jsonb_object_agg(c.field, c.own) filter (where c.is_greater and c.own is distinct from c.stored), '{}'),
           jsonb_object_agg(c.field, case when c.is_greater
               then jsonb_build_array(c.own_status, c.own_length, c.own_said_at)
               else jsonb_build_array(c.by_status, c.was_length, c.was_said_at) end),
           coalesce(array_agg(c.field order by c.field)
                    filter (where c.is_greater and c.own <> c.stored), '{}'),
           max(c.was_said_at) filter (where c.is_greater and c.own <> c.stored),
           coalesce(array_agg(c.field order by c.field)
                    filter (where not c.is_greater and c.own <> c.stored), '{}')
      into content, new_ranks, displaced, displaced_at, outranked
      from compared as c;

    fills := coalesce(fills, '{}')
        || (select coalesce(jsonb_object_agg(c.key, c.value), '{}') from jsonb_each(content) as c
             where c.key not like 'metadata.%');
    if content::text like '%"metadata.%' then
        fills := fills || jsonb_build_object('metadata', coalesce(nullif(stored -> 'metadata', 'null'), '{}')
            || (select coalesce(jsonb_object_agg(substr(c.key, 10), c.value), '{}') from jsonb_each(content) as c
                 where c.key like 'metadata.%'));
        if (select count(*) from jsonb_object_keys(fills -> 'metadata')) > 1000 then -- see turnlog.fill_rule
            fills := null;
            conflicts := '{metadata}';
            return;
        end if;
    end if;
    if (incoming ->> 'started_at')::timestamptz < coalesce((stored ->> 'started_at')::timestamptz, 'infinity') then
        fills := fills || jsonb_build_object('started_at', incoming -> 'started_at');
    end if;
    if turnlog.says_more(incoming -> 'context', stored -> 'context') then
        fills := fills || jsonb_build_object('context', incoming -> 'context');
    end if;

    stored_status := turnlog.status_rank(stored ->> 'status', stored ->> 'error', stored_statement ? 'response');
    new_status := case when own_statement ? 'response' or coalesce(incoming ->> 'status', nullif(incoming ->> 'error', '')) is not null
                       then greatest(stored_status, own.status) else stored_status end;
    is_older := outranked <> '{}' or incoming ->> 'status' is not null and own.status < stored_status;
    changed := stored || fills;
    status_name := case when new_status <> turnlog.status_rank(null, changed ->> 'error', turnlog.statement(changed) ? 'response')
                        then names[new_status + 1] end;
    if status_name is distinct from stored ->> 'status' then
        fills := fills || jsonb_build_object('status', status_name);
        changed := changed || jsonb_build_object('status', status_name);
    end if;
    filled := array(select f from jsonb_object_keys(fills) as f
                     where case f when 'status' then new_status <> stored_status
                                  when 'metadata' then exists (select from jsonb_object_keys(content) as c
                                                                where c like 'metadata.%' and c <> all (displaced))
                                  else true end
                     order by f);

    -- ranks that are those of the row itself are left out
    is_now := turnlog.record_rank(changed, new_ranks);
    select coalesce(jsonb_object_agg(r.key, r.value), '{}')
      into new_ranks
      from jsonb_each(new_ranks) as r
     where (r.value ->> 2)::timestamptz is distinct from is_now.said_at
        or (r.value ->> 0)::integer = any (attempts)
        or r.key = any (of_answer) and ((r.value ->> 0)::integer <> is_now.status
                                        or (r.value ->> 1)::integer is distinct from is_now.length)
        or r.key = any (of_call) and (r.value ->> 0)::integer
           <> case when is_now.status = any (attempts) then is_now.status else 3 end;
    new_ranks := nullif(new_ranks || case when ranks ? 'started_at'
                                          then jsonb_build_object('started_at', ranks -> 'started_at') else '{}' end, '{}');
    if new_ranks is distinct from nullif(stored -> 'ranks', 'null') then
        fills := fills || jsonb_build_object('ranks', new_ranks);
    end if;
    fills := nullif(fills, '{}');

    lost := '[]';
    if displaced <> '{}' and not turnlog.is_contained(stored_statement, turnlog.statement(changed)) then
        lost := lost || jsonb_build_object(
            'facts', stored_statement || jsonb_build_object('status', names[coalesce((ranks #>> case
                when stored_statement ? 'response' then '{response,0}'::text[] else '{error,0}' end)::integer, was.status) + 1]),
            'said_at', displaced_at);
        revised := displaced;
    end if;
    if outranked <> '{}' and not turnlog.is_contained(own_statement, turnlog.statement(changed)) then
        lost := lost || jsonb_build_object(
            'facts', own_statement || jsonb_build_object('status', names[own.status + 1]), 'said_at', said_at);
        revised := revised || outranked;
    end if;
    lost := nullif(lost, '[]');
end
$$;
