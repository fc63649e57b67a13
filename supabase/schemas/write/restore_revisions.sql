-- Restores revisions that a batch's interactions bring along from an export: `revisions` of a row, [{facts, said_at,
-- created_at}] with the facts under an interaction's names. Takes position -> receipt of the rows that created none;
-- those of an interaction that was refused are left out.
create or replace function turnlog.restore_revisions(in_project text, interactions jsonb, rejected jsonb, receipts jsonb) returns void
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
as $$
declare
    one record;
begin
    for one in
        select (i.value ->> 'session_id')::uuid as session_id, (i.value ->> 'id')::uuid as id,
               (r.value ->> 'created_at')::timestamptz as created_at,
               jsonb_build_array(jsonb_build_object('said_at', r.value -> 'said_at', 'facts',
                   turnlog.statement(f.facts) || (select coalesce(jsonb_object_agg(s.key, s.value), '{}')
                                                    from jsonb_each(f.facts) as s
                                                   where s.key in ('status', 'started_at') and s.value <> 'null'))) as lost
          from jsonb_array_elements(interactions) with ordinality as i (value, position)
         cross join lateral jsonb_array_elements(i.value -> 'revisions') as r
         cross join lateral (
               select to_jsonb(jsonb_populate_record(null::turnlog.ai_interactions, r.value -> 'facts')) as facts) as f
         where coalesce(receipts #>> array[i.position::text, 'receipt'], 'created') not in ('conflict', 'rejected')
           and not rejected ? (i.value ->> 'session_id')
    loop
        perform turnlog.keep_revisions(in_project, one.session_id, one.id, one.lost, null, one.created_at);
    end loop;
end
$$;
