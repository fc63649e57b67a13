-- Whether one value is an earlier state of another, as a growing answer is saved: a text that a model writes, by its
-- beginning; a list, where all but its last item stays and that one grows; an object, where null says nothing, texts that
-- a model writes grow, and other fields stay.
create or replace function turnlog.grows(earlier jsonb, later jsonb, is_written boolean default true) returns boolean
language plpgsql immutable parallel safe
set search_path = ''
as $$
declare
    written constant text[] := '{content,text,thinking,reasoning,reasoning_content,arguments,partial_json,refusal}';
    last integer;
begin
    if earlier = later or is_written and earlier = '""' then
        return true;
    end if;
    case concat_ws(' ', jsonb_typeof(earlier), jsonb_typeof(later))
        when 'string string' then
            return is_written and starts_with(later #>> '{}', earlier #>> '{}');
        when 'array array' then
            last := jsonb_array_length(earlier) - 1;
            return last < 0
                or last < jsonb_array_length(later)
                   and not exists (select from generate_series(0, last - 1) as n where earlier -> n <> later -> n)
                   and turnlog.grows(earlier -> last, later -> last, false);
        when 'object object' then
            return not exists (
                select from jsonb_each(earlier) as e (name, value)
                 where e.value <> 'null'
                   and (later ? e.name and turnlog.grows(e.value, later -> e.name, e.name = any (written))) is not true);
        else
            return false;
    end case;
end
$$;
