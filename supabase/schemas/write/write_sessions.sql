-- Fills the sessions that existed before the batch, or that it names several times, and reports contradictions. An
-- implicit row only brings a key, or the fields of a plan. Returns the receipts in order.
create or replace function turnlog.write_sessions(
    in_project text, rows jsonb, created uuid[], present uuid[], rejected jsonb)
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    numbers_taken constant jsonb := coalesce(rows -> 'numbers_taken', '[]');
    incoming record;
    stored turnlog.ai_sessions;
    rule record;
    makes_explicit boolean;         -- an explicit row for a session that was implicit
    positions bigint[] := '{}';
    found_receipts jsonb[] := '{}';
    receipts jsonb;         -- position -> receipt
begin
    for incoming in
        select s.value as facts, (s.value ->> 'id')::uuid as id, s.ordinality as at,
               coalesce((s.value ->> 'implicit')::boolean, false) as implicit, s.value ? 'folder_id' as has_folder,
               -- in the order in which turnlog.missing_sessions chooses the row that is inserted
               row_number() over (partition by s.value ->> 'id' order by s.value ->> 'claim' is not null,
                                  coalesce((s.value ->> 'implicit')::boolean, false), not s.value ? 'key', s.ordinality) as nth
          from jsonb_array_elements(sessions) with ordinality as s
         where (s.value -> 'implicit' is distinct from 'true' or s.value ? 'folder_id'
                or s.value ? 'key')
           and not numbers_taken @> to_jsonb(s.ordinality)
         order by nth, s.ordinality
    loop
        if incoming.nth = 1 and incoming.id = any (created) or rejected ? incoming.id::text then
            continue;
        end if;
        select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = incoming.id;
        if stored.id is null or incoming.implicit and stored.key is not null and not incoming.has_folder then
            continue;
        end if;
        positions := array_append(positions, incoming.at);
        makes_explicit := stored.implicit and not incoming.implicit;
        select r.fills, r.conflicts
          into rule
          from turnlog.fill_rule(
               -- the status `open` never contradicts, nor does what an implicit session got from its plan
               to_jsonb(stored)
                   - case when stored.status = 'open' or stored.implicit then 'status' else '' end
                   - case when stored.implicit and stored.scheduled_on <> (incoming.facts ->> 'scheduled_on')::date
                          then 'scheduled_on' else '' end
                   - case when stored.implicit and stored.user_id <> incoming.facts ->> 'user_id' then 'user_id' else '' end,
               to_jsonb(jsonb_populate_record(null::turnlog.ai_sessions, incoming.facts))
                   - '{project,id,claim,implicit,created_at,erased_at,text_expired_at,edited}'::text[]
                   -- a late title doesn't come back
                   - case when stored.text_expired_at is not null then 'title' else '' end
                   - case when incoming.implicit or incoming.facts ->> 'status' = 'open' then 'status' else '' end
                   -- a plan only fills what is empty
                   - case when incoming.implicit and stored.scheduled_on is not null then 'scheduled_on' else '' end
                   - case when incoming.implicit and stored.user_id is not null then 'user_id' else '' end
                   - coalesce(stored.edited, '{}')) as r;
        if rule.conflicts is not null then
            found_receipts := array_append(found_receipts, jsonb_build_object('receipt', 'conflict', 'fields', rule.conflicts));
        elsif rule.fills is null and not makes_explicit then
            found_receipts := array_append(found_receipts, '{"receipt": "duplicate"}'::jsonb);
        else
            update turnlog.ai_sessions as s
               set (key, user_id, title, tags, metadata, started_at, ended_at, folder_id, session_number, scheduled_on,
                    status, implicit) = (
                   select m.key, m.user_id, m.title, m.tags, m.metadata, m.started_at, m.ended_at, m.folder_id,
                          m.session_number, m.scheduled_on,
                          case when makes_explicit and not coalesce(rule.fills ? 'status', false)
                                    and 'status' <> all (coalesce(stored.edited, '{}')) then 'open' else m.status end,
                          m.implicit and not makes_explicit
                     from jsonb_populate_record(stored, coalesce(rule.fills, '{}')) as m)
             where s.project = in_project and s.id = incoming.id;
            found_receipts := array_append(found_receipts, jsonb_build_object(
                'receipt', 'filled', 'fields', array(select f from jsonb_object_keys(rule.fills) as f order by f)));
        end if;
    end loop;

    receipts := coalesce((select jsonb_object_agg(g.place, g.receipt) from unnest(positions, found_receipts) as g (place, receipt)), '{}');
    -- a session that is neither stored nor erased met another row's key
    return (
        select coalesce(jsonb_agg(coalesce(
                   receipts -> s.ordinality::text,
                   case when numbers_taken @> to_jsonb(s.ordinality)
                            then turnlog.session_conflict(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                        when rejected ->> (s.value ->> 'id') = 'erased' then '{"receipt": "rejected", "reason": "erased"}'
                        when (s.value ->> 'id')::uuid = any (created) then '{"receipt": "created"}'
                        when (s.value ->> 'id')::uuid = any (present) then '{"receipt": "duplicate"}'
                        else turnlog.session_conflict(in_project, jsonb_populate_record(null::turnlog.ai_sessions, s.value))
                   end) order by s.ordinality), '[]')
          from jsonb_array_elements(sessions) with ordinality as s);
end
$$;
