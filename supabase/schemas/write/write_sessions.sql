-- What a batch says of sessions: what they lack is filled in, what contradicts them is a conflict. Those that came along
-- with a child state their key and nothing else. Answers their receipts in order.
create or replace function turnlog.write_sessions(
    in_project text, rows jsonb, created uuid[], present uuid[], refused jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    unplaced constant jsonb := coalesce(rows -> 'unplaced', '[]');
    one record;
    held turnlog.ai_sessions;
    rule record;
    adopts boolean;         -- it creates by name what an interaction brought along
    places bigint[] := '{}';
    given jsonb[] := '{}';
    receipts jsonb;         -- position -> receipt
begin
    for one in
        select s.value as facts, (s.value ->> 'id')::uuid as id, s.ordinality as at,
               coalesce((s.value ->> 'implicit')::boolean, false) as implicit, s.value ? 'folder_id' as is_placed,
               -- as turnlog.missing_sessions chooses the one that makes it
               row_number() over (partition by s.value ->> 'id' order by s.value ->> 'claim' is not null,
                                  coalesce((s.value ->> 'implicit')::boolean, false), not s.value ? 'key', s.ordinality) as nth
          from jsonb_array_elements(sessions) with ordinality as s
         where (s.value -> 'implicit' is distinct from 'true' or s.value ? 'folder_id'
                or s.value ? 'key')
           and not unplaced @> to_jsonb(s.ordinality)
         order by nth, s.ordinality
    loop
        if one.nth = 1 and one.id = any (created) or refused ? one.id::text then
            continue;
        end if;
        select s.* into held from turnlog.ai_sessions as s where s.project = in_project and s.id = one.id;
        if held.id is null or one.implicit and held.key is not null and not one.is_placed then
            continue;
        end if;
        places := array_append(places, one.at);
        adopts := held.implicit and not one.implicit;
        select r.fills, r.conflicts
          into rule
          from turnlog.fill_rule(
               -- `open` is no fact of its own, nor is what a session was born with that nobody has created yet
               to_jsonb(held)
                   - case when held.status = 'open' or held.implicit then 'status' else '' end
                   - case when held.implicit and held.scheduled_on <> (one.facts ->> 'scheduled_on')::date
                          then 'scheduled_on' else '' end
                   - case when held.implicit and held.user_id <> one.facts ->> 'user_id' then 'user_id' else '' end,
               to_jsonb(jsonb_populate_record(null::turnlog.ai_sessions, one.facts))
                   - '{project,id,claim,implicit,created_at,erased_at,edited}'::text[]
                   - case when one.implicit or one.facts ->> 'status' = 'open' then 'status' else '' end
                   -- a plan only says what nobody else has said
                   - case when one.implicit and held.scheduled_on is not null then 'scheduled_on' else '' end
                   - case when one.implicit and held.user_id is not null then 'user_id' else '' end
                   - coalesce(held.edited, '{}')) as r;
        if rule.conflicts is not null then
            given := array_append(given, jsonb_build_object('receipt', 'conflict', 'fields', rule.conflicts));
        elsif rule.fills is null and not adopts then
            given := array_append(given, '{"receipt": "duplicate"}'::jsonb);
        else
            update turnlog.ai_sessions as s
               set (key, user_id, title, tags, metadata, started_at, ended_at, folder_id, session_number, scheduled_on,
                    status, implicit) = (
                   select m.key, m.user_id, m.title, m.tags, m.metadata, m.started_at, m.ended_at, m.folder_id,
                          m.session_number, m.scheduled_on,
                          case when adopts and not coalesce(rule.fills ? 'status', false)
                                    and 'status' <> all (coalesce(held.edited, '{}')) then 'open' else m.status end,
                          m.implicit and not adopts
                     from jsonb_populate_record(held, coalesce(rule.fills, '{}')) as m)
             where s.project = in_project and s.id = one.id;
            given := array_append(given, jsonb_build_object(
                'receipt', 'filled', 'fields', array(select f from jsonb_object_keys(rule.fills) as f order by f)));
        end if;
    end loop;

    receipts := coalesce((select jsonb_object_agg(g.place, g.receipt) from unnest(places, given) as g (place, receipt)), '{}');
    -- a record with neither a row of its own nor an erased session met another row's natural key
    return (
        select coalesce(jsonb_agg(coalesce(
                   receipts -> s.ordinality::text,
                   case when unplaced @> to_jsonb(s.ordinality)
                            then turnlog.session_clash(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                        when refused ->> (s.value ->> 'id') = 'erased' then '{"receipt": "rejected", "reason": "erased"}'
                        when (s.value ->> 'id')::uuid = any (created) then '{"receipt": "created"}'
                        when (s.value ->> 'id')::uuid = any (present) then '{"receipt": "duplicate"}'
                        else turnlog.session_clash(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                   end) order by s.ordinality), '[]')
          from jsonb_array_elements(sessions) with ordinality as s);
end
$$;
