-- Goes through a batch's interactions that were there already, or that it states more than once: the first statement of
-- each at once, then the others one after another, in order. Answers position -> receipt of all but those that the batch
-- created: of several about one the first whose key it got, since one with a key that another row has wasn't inserted.
create or replace function turnlog.fill_interactions(
    in_project text, rows jsonb, refused jsonb, created_sessions uuid[], created_ids uuid[], created_keys text[])
returns jsonb
language plpgsql volatile
set search_path = ''
as $$
declare
    interactions constant jsonb := rows -> 'interactions';
    sessions constant jsonb := coalesce(rows -> 'sessions', '[]');
    first_ones bigint[];
    others bigint[];
    one bigint;
    receipts jsonb[];
begin
    -- by grouping: a join of two lists of unknown length is planned as a nested loop
    select array_agg(i.position) filter (where i.nth = 1), array_agg(i.position order by i.position) filter (where i.nth > 1)
      into first_ones, others
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

    receipts := array[turnlog.fill_stored(in_project, rows, refused, first_ones)];
    foreach one in array coalesce(others, '{}') loop
        -- by itself: to look it up in a large batch takes longer than to write it
        receipts := array_append(receipts, jsonb_build_object(one, turnlog.fill_stored(
            in_project, jsonb_build_object('sessions', sessions, 'interactions', jsonb_build_array(interactions -> (one - 1)::integer)),
            refused, '{1}') -> '1'));
    end loop;
    return (select jsonb_object_agg(e.key, e.value) from unnest(receipts) as r (given) cross join lateral jsonb_each(r.given) as e);
end
$$;
