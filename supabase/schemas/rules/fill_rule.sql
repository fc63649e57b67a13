-- The fill rule, for one record: which of the stated facts fill an empty field of the stored record, and
-- which contradict it. Tags and metadata gain entries: a new tag or a new metadata key fills; a metadata key
-- that holds another value contradicts, and is named 'metadata.KEY'. A turn that was erased takes nothing any more.
create or replace function turnlog.fill_rule(stored jsonb, stated jsonb, out fills jsonb, out conflicts text[])
language plpgsql immutable
set search_path = ''
as $$
declare
    field text;
    value jsonb;
    held jsonb;
    gained jsonb;
begin
    if stored ->> 'erased_at' is not null and stored ? 'prompt' then
        conflicts := '{erased_at}';
        return;
    end if;
    for field, value in select s.key, s.value from jsonb_each(stated) as s where s.value not in ('null', '[]', '{}') loop
        held := nullif(stored -> field, 'null');
        if held = value then
            continue;
        elsif held is null then
            gained := value;
        elsif field = 'tags' then
            gained := held || coalesce(
                (select jsonb_agg(t.tag order by t.n)
                   from jsonb_array_elements(value) with ordinality as t (tag, n) where not held @> t.tag), '[]');
        elsif field = 'metadata' then
            gained := value || held;
            conflicts := conflicts || array(
                select 'metadata.' || m.key from jsonb_each(value) as m where held -> m.key <> m.value order by m.key);
        else
            gained := held;
            conflicts := conflicts || field;
        end if;
        if gained is distinct from held then
            fills := coalesce(fills, '{}') || jsonb_build_object(field, gained);
        end if;
    end loop;
    conflicts := nullif(conflicts, '{}');
end
$$;
