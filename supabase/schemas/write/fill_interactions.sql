-- Compares a batch's interactions with the stored ones: those that existed, and repetitions within the batch. The first
-- row of each interaction is compared set-wise, repetitions follow one by one, in order.
-- Takes the sessions, ids and keys that the batch created. Returns position -> receipt for all rows but those that
-- created an interaction. Of several rows of one id, the one whose key was inserted is the one that created it.
create or replace function turnlog.fill_interactions(
    in_project text, rows jsonb, rejected jsonb, created_sessions uuid[], created_ids uuid[], created_keys text[])
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    first_positions bigint[];
    later_positions bigint[];
    next_position bigint;
    receipts jsonb[];
begin
    -- group instead of joining: a join of two lists of unknown length is planned as a nested loop
    select array_agg(i.position) filter (where i.nth = 1), array_agg(i.position order by i.position) filter (where i.nth > 1)
      into first_positions, later_positions
      from (select i.position, row_number() over (partition by i.session_id, i.id
                                                  order by i.is_created and i.key is distinct from i.created_key, i.position)
                               - i.is_created::integer as nth
              from (select i.*, bool_or(i.position is null) over same as is_created,
                           max(i.key) filter (where i.position is null) over same as created_key
                      from (select i.session_id, i.id, i.key, i.ordinality as position
                              from rows from (jsonb_to_recordset(interactions) as (session_id uuid, id uuid, key text))
                                   with ordinality as i
                            union all
                            select n.session_id, n.id, n.key, null
                              from unnest(created_sessions, created_ids, created_keys) as n (session_id, id, key)) as i
                    window same as (partition by i.session_id, i.id)) as i) as i
     where i.position is not null and i.nth > 0;

    receipts := array[turnlog.fill_stored(in_project, rows, rejected, first_positions)];
    foreach next_position in array coalesce(later_positions, '{}') loop
        -- as a batch of one: a lookup in a large jsonb takes longer than the write
        receipts := array_append(receipts, jsonb_build_object(next_position, turnlog.fill_stored(
            in_project, jsonb_build_object('sessions', sessions, 'interactions', jsonb_build_array(interactions -> (next_position - 1)::integer)),
            rejected, '{1}') -> '1'));
    end loop;
    return (select jsonb_object_agg(e.key, e.value) from unnest(receipts) as r (one_map) cross join lateral jsonb_each(r.one_map) as e);
end
$$;
