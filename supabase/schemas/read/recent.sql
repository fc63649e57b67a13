-- Lists interactions of all sessions with the beginnings of their texts, in order of arrival, newest first. With `from`
-- or `to`: those that began in that span, newest first by their started_at, or created_at without one. `error`: only
-- those of this kind, see turnlog.error_kind.
-- Takes {project, limit, model?, has_errors?, error?, from?, to?, after?: {at, session_id, interaction_id}}. Returns
-- {interactions, after}. A page may be short; `after` is null at the end.
create or replace function turnlog.recent(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- a bounded number of rows, never a whole table, whatever its statistics say
set jit = off
as $$
declare
    page_size constant integer := (request ->> 'limit')::integer;
    of_a_time constant boolean := coalesce(request ->> 'from', request ->> 'to') is not null;
    at constant text := case when of_a_time then 'coalesce(i.started_at, i.created_at)' else 'i.created_at' end;
    failed constant text := case when coalesce((request ->> 'has_errors')::boolean, false)
        then ' and (i.status = ''failed'' or i.status is null and i.error <> '''')' else '' end;
    place_of constant text := 'jsonb_build_object(''at'', p.at, ''session_id'', p.session_id, ''interaction_id'', p.id)';
    most_messages constant integer := 20; -- of a history: the last one with a text is shown
    enough constant integer := case when request ->> 'error' is null then 10000 else 2000 end; -- rows to scan
    walked text := 'i.project = $1 ->> ''project''';
    further text := '';
    page jsonb;
    place jsonb;
begin
    if request ->> 'from' is not null then
        walked := walked || format(' and %s >= ($1 ->> ''from'')::timestamptz', at);
    end if;
    if request ->> 'to' is not null then
        walked := walked || format(' and %s < ($1 ->> ''to'')::timestamptz', at);
    end if;
    if of_a_time then
        walked := walked || ' and i.erased_at is null' || failed; -- failures have an index by this time
    else
        further := failed;
    end if;
    if request ->> 'model' is not null then
        further := further || ' and i.model = $1 ->> ''model''';
    end if;
    if request ->> 'error' is not null then
        further := further || ' and case when i.text_expired_at is null then turnlog.error_kind(i.error)'
                              ' else i.error end = $1 ->> ''error''';
    end if;
    if request #>> '{after,session_id}' is not null then
        -- the first condition is the index's; within a session, interactions of one time are ordered by id
        walked := walked || format(
            ' and (%1$s, i.session_id) <= (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid)'
            ' and (%1$s, i.session_id, i.id) < (($1 #>> ''{after,at}'')::timestamptz, ($1 #>> ''{after,session_id}'')::uuid,'
            ' ($1 #>> ''{after,interaction_id}'')::uuid)', at);
    end if;
    execute 'with looked as (select i.*, ' || at || ' as at from turnlog.ai_interactions as i where ' || walked
            || format(' order by %s desc, i.session_id desc, i.id desc limit $3), ', at)
            || 'shown as (select i.*, row_number() over (order by i.at desc, i.session_id desc, i.id desc) as n'
               ' from (select i.* from looked as i where true' || further
            || ' order by i.at desc, i.session_id desc, i.id desc limit $2 + 1) as i)'
            || $sql$
    select (select coalesce(jsonb_agg(jsonb_build_object(
                       'interaction_id', i.id, 'session_id', i.session_id, 'session_key', s.key, 'title', s.title,
                       'user_id', s.user_id, 'participant', i.participant, 'turn', i.turn,
                       'model', i.model, 'provider', i.provider,
                       'status', coalesce(i.status, case
                           when i.error <> '' then 'failed'
                           when i.response is not null then 'completed'
                           else 'pending' end),
                       'error', left(i.error, 300), 'finish_reason', i.finish_reason,
                       'prompt', case when i.prompt_end is null then to_jsonb(turnlog.excerpt(i.prompt, 300))
                                      else i.prompt end,
                       'response', case when i.response_end is null then to_jsonb(turnlog.excerpt(i.response, 300))
                                        else i.response end,
                       'ends', jsonb_build_array(i.context_end, i.prompt_end, i.response_end),
                       'latency_ms', i.latency_ms, 'input_tokens', i.input_tokens, 'output_tokens', i.output_tokens,
                       'erased_at', i.erased_at, 'text_expired_at', i.text_expired_at,
                       'started_at', i.started_at, 'created_at', i.created_at) order by i.n), '[]')
              from shown as i
              -- a session that is being erased is a tombstone already, so it disappears at once
              join turnlog.ai_sessions as s on s.project = i.project and s.id = i.session_id and s.erased_at is null
             where i.n <= $2),
           case when (select count(*) from shown) > $2$sql$
            || ' then (select ' || place_of || ' from shown as p where p.n = $2)'
               ' else (select ' || place_of || ' from looked as p offset $3 - 1 limit 1) end'
       into page, place using request, page_size, enough;
    -- what is stored by content is read by queries of its own: see turnlog.with_messages
    return jsonb_build_object('after', place, 'interactions', coalesce((
        select jsonb_agg((p.value - 'ends'::text) || case when p.value #>> '{ends,1}' is null then '{}' else jsonb_build_object(
                   'prompt', turnlog.excerpt(turnlog.content(
                       p.value -> 'prompt', request ->> 'project', (p.value ->> 'session_id')::uuid,
                       (p.value #>> '{ends,1}')::uuid, (p.value #>> '{ends,0}')::uuid, (p.value #>> '{ends,2}')::uuid,
                       null, most_messages), 300),
                   'response', case jsonb_typeof(p.value -> 'response') when 'object' then turnlog.excerpt(turnlog.content(
                       p.value -> 'response', request ->> 'project', (p.value ->> 'session_id')::uuid,
                       (p.value #>> '{ends,2}')::uuid, (p.value #>> '{ends,1}')::uuid), 300)
                       else p.value ->> 'response' end) end
                   order by p.n)
          from jsonb_array_elements(page) with ordinality as p (value, n)), '[]'));
end
$$;
