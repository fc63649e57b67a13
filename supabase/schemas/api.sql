-- The function that Supabase's API calls: the only object outside the schema `turnlog`, created only where service_role
-- exists. An operation is a function of the schema that takes one `request`. The comment marks the function as ours.
do $$
declare
    mark constant text := 'Turnlog''s door for Supabase''s API: see the schema turnlog.';
    existing constant oid := pg_catalog.to_regprocedure('public.turnlog(text, jsonb)');
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        return;
    end if;
    if existing is not null and pg_catalog.obj_description(existing, 'pg_proc') is distinct from mark then
        raise exception using
            errcode = '42723',
            message = 'The function public.turnlog(text, jsonb) of this database is not marked as Turnlog''s',
            hint = case
                when pg_catalog.pg_get_functiondef(existing) not like '%turnlog.%I($1)%'
                    then 'Supabase''s API reaches Turnlog under this name. Rename yours: '
                         'alter function public.turnlog(text, jsonb) rename to …'
                else pg_catalog.format('If this is Turnlog''s, restored without its comments, mark it: '
                                       'comment on function public.turnlog(text, jsonb) is %L;', mark)
            end;
    end if;
    if not pg_catalog.has_schema_privilege('public', 'create') then
        raise exception using
            errcode = '42501',
            message = pg_catalog.format('The role %s may not create the function public.turnlog, which Supabase''s API '
                                        'calls', current_user),
            hint = pg_catalog.format('Run: grant create on schema public to %I;', current_user);
    end if;
    create or replace function public.turnlog(operation text, request jsonb default '{}') returns jsonb
    language plpgsql volatile
    set search_path = ''
    as $function$
    declare
        answer jsonb;
    begin
        if not exists (select from pg_catalog.pg_proc as p
                        where p.pronamespace = 'turnlog'::pg_catalog.regnamespace and p.proname = operation
                          and p.pronargs = 1 and p.proargnames[1] = 'request') then
            raise exception using errcode = '42883', message = pg_catalog.format('there is no operation %L', operation);
        end if;
        execute pg_catalog.format('select turnlog.%I($1)', operation) into answer using request;
        return answer;
    end
    $function$;
    execute pg_catalog.format('comment on function public.turnlog(text, jsonb) is %L', mark);
    execute 'revoke all on function public.turnlog(text, jsonb) from public'
        || (select coalesce(pg_catalog.string_agg(', ' || pg_catalog.quote_ident(r.rolname), ''), '')
              from pg_catalog.pg_roles as r
             where r.rolname in ('anon', 'authenticated'));
    grant execute on function public.turnlog(text, jsonb) to service_role;
end
$$;
