-- Writes a batch as turnlog.write_v1 does, where its rows may carry `claim`: whose their session must be. A session that
-- is there and somebody else's refuses them; one that isn't becomes theirs. Locks are taken in turnlog.write_v1's order.
create or replace function turnlog.write_v2(batch jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = 'force_generic_plan'
set enable_seqscan = off -- a plan made while the tables were empty would still scan them when they are full
set lock_timeout = '3s'
as $$
declare
    in_project constant text := batch ->> 'project';
    claiming constant text[] := '{sessions,participants,interactions}';
    claimed constant uuid[] := array(   -- sessions that some row claims
        select distinct coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid
          from unnest(claiming) as k (kind)
         cross join lateral jsonb_array_elements(batch -> k.kind) as e
         where e.value ? 'claim');
    kind text;
    missing uuid[];     -- those of them that nobody has written yet
    owners jsonb;       -- session -> who has it, or gets it; '' for nobody but the service
    refused jsonb;      -- kind -> positions of rows whose session is somebody else's
    passed jsonb := batch;
    stated integer;     -- how many of the sessions' rows pass
    receipts jsonb;
    born uuid[];
begin
    if claimed = '{}' then
        return turnlog.write_v1(batch);
    end if;

    for attempt in 1 .. 3 loop
        -- An owner never changes, so what this look has seen stays true. An erased session answers for itself.
        select coalesce(jsonb_object_agg(s.id, case when s.erased_at is null then coalesce(s.claim, 'user:' || s.user_id, '') end), '{}')
          into owners
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = any (claimed);
        missing := array(select c.id from unnest(claimed) as c (id) where not owners ? c.id::text);

        -- Of several in this batch who make the same session the service is first, then who came first.
        if missing <> '{}' then
            select owners || coalesce(jsonb_object_agg(first.session_id, first.claim), '{}')
              into owners
              from (select distinct on (r.session_id) r.session_id, coalesce(r.claim, '') as claim
                      from unnest(claiming) with ordinality as k (kind, nth)
                     cross join lateral (
                           select coalesce(e.value ->> 'session_id', e.value ->> 'id')::uuid as session_id,
                                  e.value ->> 'claim' as claim, e.ordinality
                             from jsonb_array_elements(batch -> k.kind) with ordinality as e) as r
                     where r.session_id = any (missing)
                     order by r.session_id, r.claim is not null, k.nth, r.ordinality) as first;
        end if;

        select jsonb_object_agg(k.kind, coalesce(r.rows, '[]')), jsonb_object_agg(k.kind, coalesce(r.refused, '[]'))
          into passed, refused
          from unnest(claiming) as k (kind)
         cross join lateral (
               select jsonb_agg(w.value - 'claim' order by w.ordinality) filter (where not w.is_refused) as rows,
                      jsonb_agg(w.ordinality order by w.ordinality) filter (where w.is_refused) as refused
                 from (select e.value, e.ordinality, coalesce(
                              e.value ->> 'claim' <> owners ->> coalesce(e.value ->> 'session_id', e.value ->> 'id'),
                              false) as is_refused
                         from jsonb_array_elements(batch -> k.kind) with ordinality as e) as w) as r;

        stated := jsonb_array_length(passed -> 'sessions');
        if missing = '{}' then
            receipts := turnlog.write_v1(batch || passed);
            exit;
        end if;

        -- Who makes a session makes it by a row of its own, so that it is known who did; a user's carries their name.
        passed := passed || jsonb_build_object('sessions', (
            select jsonb_agg(case when owners ->> (s.value ->> 'id') like 'user:%' and (s.value ->> 'id')::uuid = any (missing)
                                  then jsonb_build_object('user_id', substr(owners ->> (s.value ->> 'id'), 6)) || s.value
                                  else s.value end order by s.nth)
              from (select e.value, e.ordinality as nth
                      from jsonb_array_elements(passed -> 'sessions') with ordinality as e
                    union all
                    select jsonb_build_object('id', r.session_id, 'implicit', true, 'created_at', min(r.created_at)),
                           stated + row_number() over (order by r.session_id)
                      from (select (e ->> 'session_id')::uuid as session_id, e ->> 'created_at' as created_at
                              from jsonb_array_elements((passed -> 'participants') || (passed -> 'interactions')) as e) as r
                     where r.session_id = any (missing)
                       and not exists (select from jsonb_array_elements(passed -> 'sessions') as e
                                        where (e ->> 'id')::uuid = r.session_id)
                     group by r.session_id) as s));

        begin
            receipts := turnlog.write_v1(batch || passed);
            born := array(
                select (s.value ->> 'id')::uuid
                  from jsonb_array_elements(passed -> 'sessions') with ordinality as s
                 where receipts -> 'sessions' -> (s.ordinality - 1)::integer ->> 'receipt' = 'created');
            if exists (select from turnlog.ai_sessions as s
                        where s.project = in_project and s.id = any (missing) and s.id <> all (born)) then
                raise exception using errcode = 'TLRAC', message = 'somebody else made a session meanwhile';
            end if;
            update turnlog.ai_sessions as s
               set claim = owners ->> s.id::text
             where s.project = in_project and s.id = any (missing) and owners ->> s.id::text like 'token:%';
            exit;
        exception when sqlstate 'TLRAC' then
            receipts := null; -- all of it is taken back; the next look sees whose the session is
        end;
    end loop;
    if receipts is null then
        raise exception using errcode = '55P03', message = 'somebody else keeps making the sessions of this batch';
    end if;

    if jsonb_array_length(passed -> 'sessions') > stated then
        receipts := receipts || jsonb_build_object('sessions', (
            select coalesce(jsonb_agg(r.value order by r.ordinality), '[]')
              from jsonb_array_elements(receipts -> 'sessions') with ordinality as r
             where r.ordinality <= stated));
    end if;
    foreach kind in array claiming loop
        if refused -> kind <> '[]' then
            receipts := receipts || jsonb_build_object(kind, (
                select jsonb_agg(case when r.is_refused
                                     then '{"receipt": "conflict", "reason": "The session is somebody else''s"}'::jsonb
                                     else receipts -> kind -> (r.place - 1)::integer end
                                 order by r.ordinality)
                  from (select e.ordinality, w.is_refused,
                               count(*) filter (where not w.is_refused) over (order by e.ordinality) as place
                          from jsonb_array_elements(batch -> kind) with ordinality as e
                         cross join lateral (
                               select refused -> kind @> to_jsonb(e.ordinality) as is_refused) as w) as r));
        end if;
    end loop;
    return receipts;
end
$$;
