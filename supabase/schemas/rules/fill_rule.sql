-- The fill rule: compares an incoming record with the stored one. Returns `fills`, the fields that are empty in the
-- stored record with their new values (null if there are none), and `conflicts`, the names of fields that contradict
-- it. Tags and metadata gain entries: a new tag or metadata key fills; a metadata key with another value is a conflict,
-- named 'metadata.KEY'. Keys that would make it more than 1,000 are a conflict, named 'metadata': each fill compares and
-- writes all of them again. Of two chosen_at the later one is kept.
create or replace function turnlog.fill_rule(stored jsonb, incoming jsonb, out fills jsonb, out conflicts text[])
language plpgsql immutable
set search_path = ''
as $$
declare
    field text;
    value jsonb;
    stored_value jsonb;
    merged jsonb;
begin
    for field, value in select s.key, s.value from jsonb_each(incoming) as s where s.value not in ('null', '[]', '{}') loop
        stored_value := nullif(stored -> field, 'null');
        if stored_value = value then
            continue;
        elsif stored_value is null then
            merged := value;
        elsif field = 'chosen_at' then -- in files of different times, the last choice counts
            merged := to_jsonb(greatest((value #>> '{}')::timestamptz, (stored_value #>> '{}')::timestamptz));
        elsif field = 'tags' then
            merged := stored_value || coalesce(
                (select jsonb_agg(t.tag order by t.n)
                   from jsonb_array_elements(value) with ordinality as t (tag, n) where not stored_value @> t.tag), '[]');
        elsif field = 'metadata' then
            merged := value || stored_value;
            if merged <> stored_value and (select count(*) from jsonb_object_keys(merged)) > 1000 then
                merged := stored_value;
                conflicts := conflicts || field;
            end if;
            conflicts := conflicts || array(
                select 'metadata.' || m.key from jsonb_each(value) as m where stored_value -> m.key <> m.value order by m.key);
        else
            merged := stored_value;
            conflicts := conflicts || field;
        end if;
        if merged is distinct from stored_value then
            fills := coalesce(fills, '{}') || jsonb_build_object(field, merged);
        end if;
    end loop;
    conflicts := nullif(conflicts, '{}');
end
$$;
