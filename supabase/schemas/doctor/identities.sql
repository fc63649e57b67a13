-- Finds rows of Turnlog's tables that break their identity, whatever the constraints say.
-- Takes {foreign: [{table, columns, references, referenced}], keys: [{table, columns, required}], names: [{table,
-- column}]}. Returns {orphans: [{table, references, rows, examples}], incomplete: [{table, columns, rows}], repeated:
-- [{table, columns, values, examples}], placeholders: [{table, column, rows}], undead: interactions of erased
-- sessions}; only findings are listed.
create or replace function turnlog.identities(request jsonb) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
    entry jsonb;
    answer jsonb := '{"orphans": [], "incomplete": [], "repeated": [], "placeholders": [], "undead": 0}';
    columns text;
    found bigint;
    examples jsonb;
begin
    for entry in select * from jsonb_array_elements(request -> 'foreign') loop
        execute format(
            'select count(*), jsonb_agg(distinct to_jsonb(o.identity)) filter (where o.n <= 3)
               from (select jsonb_build_array(%3$s) as identity, row_number() over (order by %3$s) as n
                       from turnlog.%1$I as c
                      where (%3$s) is not null and not exists (select from turnlog.%2$I as p where (%4$s) = (%3$s))) as o',
            entry ->> 'table', entry ->> 'references',
            (select string_agg(format('c.%I', f), ', ') from jsonb_array_elements_text(entry -> 'columns') as f),
            (select string_agg(format('p.%I', f), ', ') from jsonb_array_elements_text(entry -> 'referenced') as f))
           into found, examples;
        if found > 0 then
            answer := jsonb_insert(answer, '{orphans,-1}', entry || jsonb_build_object('rows', found, 'examples', examples), true);
        end if;
    end loop;

    for entry in select * from jsonb_array_elements(request -> 'keys') loop
        columns := (select string_agg(format('c.%I', f), ', ') from jsonb_array_elements_text(entry -> 'columns') as f);
        if (entry ->> 'required')::boolean then
            execute format('select count(*) from turnlog.%I as c where not ((%s) is not null)', entry ->> 'table', columns)
               into found;
            if found > 0 then
                answer := jsonb_insert(answer, '{incomplete,-1}', entry || jsonb_build_object('rows', found), true);
            end if;
        end if;
        execute format(
            'select count(*), jsonb_agg(r.identity) filter (where r.n <= 3)
               from (select jsonb_build_array(%2$s) as identity, row_number() over (order by %2$s) as n
                       from turnlog.%1$I as c where (%2$s) is not null group by %2$s having count(*) > 1) as r',
            entry ->> 'table', columns)
           into found, examples;
        if found > 0 then
            answer := jsonb_insert(answer, '{repeated,-1}', entry || jsonb_build_object('values', found, 'examples', examples), true);
        end if;
    end loop;

    for entry in select * from jsonb_array_elements(request -> 'names') loop
        execute format(
            'select count(*) from turnlog.%1$I as c where c.%2$I is not null and %3$s',
            entry ->> 'table', entry ->> 'column',
            turnlog.blank_condition(format('c.%I::text', entry ->> 'column')))
           into found;
        if found > 0 then
            answer := jsonb_insert(answer, '{placeholders,-1}', entry || jsonb_build_object('rows', found), true);
        end if;
    end loop;

    return answer || jsonb_build_object('undead', (
        select count(*)
          from turnlog.ai_sessions as s
          join turnlog.ai_interactions as i on i.project = s.project and i.session_id = s.id
         where s.erased_at is not null));
end
$$;
