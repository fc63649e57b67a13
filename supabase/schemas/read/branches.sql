-- Returns the tree of a session: for each interaction its place in the order of the session (turn, at, arrived, id), the
-- interaction that it `follows` (null: none; one that isn't stored is named all the same), whether it is on the branch
-- that leads `through` an interaction, and whether on the current one. Without `through`, or if nothing has that id, both
-- are the same. Interactions that follow the same one are alternatives of each other. Returns no rows for a linear
-- session, where each interaction follows the one before it: an index or one sort finds that out.
--
-- The rules. None of them depends on the order of arrival, so far as times are given:
--   place     An interaction stands in the place of its alternative_to; without a prompt, in that of its reply_to. All
--             that are linked so, also in a circle, share one place.
--   follows   A place follows the first reply_to of its interactions, in their order, that leads out of it; without
--             one, or if that leads back to the place, the interaction before it. For that, the places go from the last
--             to the first, so of a circle the first place gives way. Before it: the last one that was said no later or
--             names no other interaction, since an alternative that was said later is no predecessor of what it replaces.
--   unknown   An interaction that is named and isn't stored stands directly before the first that names it.
--   branch    At each fork the branch takes the interaction that leads to the latest one: said or chosen last. One that
--             leads to no answer and to no choice gives way to one that does: a regeneration that fails hides nothing.
--   resumes   What names no other interaction goes on where the branch ended when it was said. So if an interaction was
--             chosen after the one before was said, it follows the end of the branch through the chosen one; if the one
--             before has no answer, the end of the branch through its best alternative. In both cases the branch is one
--             of those before, with the choices until then; what replies to a later one isn't looked at.
-- Everything is done with arrays of numbers, in time that grows a little faster than the session: a recursive query
-- would join the session with itself at each step.
create or replace function turnlog.branches(in_project text, of_session uuid, through uuid)
returns table (id uuid, turn bigint, at timestamptz, arrived timestamptz, follows uuid, on_branch boolean, is_current boolean)
language plpgsql stable
set search_path = ''
set enable_nestloop = off -- a session without statistics would be joined with itself row by row
rows 10000
as $$
#variable_conflict use_column
declare
    is_linear boolean;
    ids uuid[];
    is_stored boolean[];
    is_placed boolean[];    -- names another interaction
    turns bigint[];
    said timestamptz[];
    arrivals timestamptz[];
    chosen timestamptz[];
    active timestamptz[];   -- said or chosen
    until_then timestamptz[]; -- the same at the time of another one
    is_live boolean[];      -- leads to one that is answered or was chosen
    is_answered boolean[];
    choices integer[];      -- the numbers of those that were chosen, by the time of the choice
    replies integer[];      -- the number of its reply_to, 0 for none
    instead integer[];      -- the number of the interaction in whose place it stands, 0 for none
    count integer;
    place integer[];        -- a number of the same place; the first one's own is itself
    previous integer[];     -- the number of the one before, as above; 0 for none
    stack integer[];
    depth integer := 0;
    parent integer[];       -- of a place: the number that it follows, 0 for none
    top integer[];          -- a place further up the tree so far
    children integer[];     -- how many; of no interaction: those of the last element
    best integer[];         -- the child to take at a fork
    latest integer[];       -- the latest interaction from here on
    low integer;
    high integer;
    queue integer[];
    marked boolean[];
    current boolean[];
    x integer;
    y integer;
    target integer;
begin
    if not exists (select from turnlog.ai_interactions as i
                    where i.project = in_project and i.session_id = of_session
                      and (i.reply_to is not null or i.alternative_to is not null)) then
        return;
    end if;

    with stored as materialized (
        select i.id, nullif(i.reply_to, i.id) as reply_to, nullif(i.alternative_to, i.id) as alternative_to, i.turn,
               i.prompt is not null or i.erased_at is not null as asks, i.created_at, i.chosen_at,
               least(coalesce(i.started_at, i.created_at), i.created_at) as said
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session
    ), ordered as materialized (
        select s.*, row_number() over w as n, lag(s.id) over w as before,
               lag(s.reply_to) over w is not null and lag(s.said) over w > s.said as is_after_later
          from stored as s
        window w as (order by s.turn, s.said, s.created_at, s.id)
    )
    select bool_and(o.alternative_to is null and case
               when o.reply_to is null then not o.is_after_later
               else o.asks and o.reply_to is not distinct from o.before end)
      into is_linear
      from ordered as o;
    if is_linear then
        return;
    end if;

    with stored as materialized (
        select i.id, nullif(i.reply_to, i.id) as reply_to, nullif(i.alternative_to, i.id) as alternative_to, i.turn,
               i.prompt is not null or i.erased_at is not null as asks, i.created_at, i.chosen_at,
               least(coalesce(i.started_at, i.created_at), i.created_at) as said,
               i.erased_at is null and case coalesce(i.status, case when i.error <> '' then 'failed'
                                                                    when i.response is not null then 'completed' end)
                   when 'completed' then true
                   when 'pending' then coalesce(i.response not in ('""', '[]'), false)
                   else false end as is_answered
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session
    ), ordered as materialized (
        select s.*, row_number() over (order by s.turn, s.said, s.created_at, s.id) as n
          from stored as s
    ), named as (
        select distinct on (m.id) m.id, m.n, m.said
          from (select o.reply_to as id, o.n, o.said from ordered as o where o.reply_to is not null
                union all
                select o.alternative_to, o.n, o.said from ordered as o where o.alternative_to is not null) as m
         order by m.id, m.n
    ), numbered as materialized (
        select a.*, row_number() over (order by a.n, a.is_stored, a.id)::integer as number
          from (select o.id, true as is_stored, o.n, o.turn, o.said, o.created_at, o.chosen_at, o.is_answered, o.reply_to, case when o.alternative_to is not null then o.alternative_to
                                        when not o.asks then o.reply_to end as instead_of,
                       coalesce(o.reply_to, o.alternative_to) is not null as is_placed
                  from ordered as o
                union all
                select m.id, false, m.n, null, m.said, null, null, false, null, null, false
                  from named as m
                  left join ordered as o on o.id = m.id
                 where o.id is null) as a
    )
    select array_agg(a.id order by a.number), array_agg(a.is_stored order by a.number),
           array_agg(a.is_placed order by a.number), array_agg(a.turn order by a.number),
           array_agg(a.said order by a.number), array_agg(a.created_at order by a.number),
           array_agg(a.chosen_at order by a.number),
           array_agg(case when a.is_stored then greatest(a.said, a.chosen_at) else '-infinity' end order by a.number),
           array_agg(a.is_answered order by a.number),
           coalesce(array_agg(a.number order by a.chosen_at, a.number) filter (where a.chosen_at is not null), '{}'),
           array_agg(coalesce(r.number, 0) order by a.number),
           array_agg(coalesce(p.number, 0) order by a.number), count(*)
      into ids, is_stored, is_placed, turns, said, arrivals, chosen, active, is_answered, choices, replies, instead, count
      from numbered as a
      left join numbered as r on r.id = a.reply_to
      left join numbered as p on p.id = a.instead_of;

    -- places: the first of each gets the number of the place
    place := array(select n from generate_series(1, count) as n);
    for n in 1 .. count loop
        if instead[n] > 0 then
            x := n;
            while place[x] <> x loop
                place[x] := place[place[x]];
                x := place[x];
            end loop;
            y := instead[n];
            while place[y] <> y loop
                place[y] := place[place[y]];
                y := place[y];
            end loop;
            place[greatest(x, y)] := least(x, y);
        end if;
    end loop;
    for n in 1 .. count loop
        place[n] := place[place[n]]; -- it never leads forward, so the one it leads to is done
    end loop;

    -- the one before: on the stack, later ones were said later; one that names no other ends the search for all after it
    previous := array_fill(0, array[count]);
    stack := previous;
    for n in 1 .. count loop
        y := depth;
        while y > 0 and is_placed[stack[y]] and said[stack[y]] > said[n] loop
            y := y - 1;
        end loop;
        previous[n] := case when y > 0 then stack[y] else 0 end;
        if is_stored[n] then
            depth := case when is_placed[n] then y else 0 end + 1;
            stack[depth] := n;
        end if;
    end loop;

    -- what each place follows
    parent := array_fill(0, array[count]);
    for n in 1 .. count loop
        x := place[n];
        if parent[x] = 0 and replies[n] > 0 and place[replies[n]] <> x then
            parent[x] := replies[n];
        end if;
    end loop;
    top := array(select n from generate_series(1, count) as n);
    for n in reverse count .. 1 loop
        continue when place[n] <> n;
        target := parent[n];
        if target > 0 then
            x := place[target];
            while top[x] <> x loop
                top[x] := top[top[x]];
                x := top[x];
            end loop;
            if x = n then
                target := 0;
            end if;
        end if;
        if target = 0 then
            target := previous[n];
        else
            previous[n] := 0; -- it says what it follows
        end if;
        parent[n] := target;
        if target > 0 then
            top[n] := place[target];
        end if;
    end loop;

    -- what names no other resumes the branch
    until_then := array_fill(null::timestamptz, array[count]);
    for n in 1 .. count loop
        target := previous[n];
        continue when place[n] <> n or target = 0 or is_placed[n] or not is_stored[n];
        -- the last choice until then, by bisection
        low := 0;
        high := cardinality(choices);
        while low < high loop
            x := (low + high + 1) / 2;
            if chosen[choices[x]] <= said[n] then
                low := x;
            else
                high := x - 1;
            end if;
        end loop;
        while low > 0 and chosen[choices[low]] > said[target]
              and (choices[low] >= n or is_placed[choices[low]] and said[choices[low]] > said[n]) loop
            low := low - 1;
        end loop;
        if low > 0 and chosen[choices[low]] > said[target] then
            low := choices[low];
        elsif is_answered[target] then
            continue;
        else
            low := parent[place[target]];
            continue when low > target;
        end if;
        -- the branch from `low` on, of those between: marked from there, then from the leaves up as below
        marked := array_fill(false, array[n - low], array[low]);
        marked[low] := true;
        for m in low + 1 .. n - 1 loop
            y := parent[place[m]];
            marked[m] := (said[m] <= said[n] or not is_placed[m]) and y >= low and y < m and marked[y];
        end loop;
        best := array_fill(0, array[n - low], array[low]);
        latest := best;
        is_live := array_fill(false, array[n - low], array[low]);
        for m in reverse n - 1 .. low + 1 loop
            continue when not marked[m];
            is_live[m] := is_live[m] or is_answered[m] or coalesce(chosen[m] <= said[n], false);
            until_then[m] := case when not is_stored[m] then '-infinity'
                                  when chosen[m] <= said[n] then greatest(said[m], chosen[m])
                                  else said[m] end;
            if latest[m] = 0 or (until_then[m], m) > (until_then[latest[m]], latest[m]) then
                latest[m] := m;
            end if;
            y := parent[place[m]];
            if best[y] = 0 or (is_live[m], until_then[latest[m]], latest[m])
                              > (is_live[best[y]], until_then[latest[best[y]]], latest[best[y]]) then
                best[y] := m;
            end if;
            if latest[y] = 0 or (until_then[latest[m]], latest[m]) > (until_then[latest[y]], latest[y]) then
                latest[y] := latest[m];
            end if;
            is_live[y] := is_live[y] or is_live[m];
        end loop;
        x := low;
        while best[x] > 0 loop
            x := best[x];
        end loop;
        continue when x = 0 or x = target or not is_stored[x];
        y := x;
        while y > 0 and place[y] <> n loop
            y := parent[place[y]];
        end loop;
        if y = 0 then
            parent[n] := x;
        end if;
    end loop;

    -- from the leaves up: which child to take
    children := array_fill(0, array[count + 1]);
    best := children;
    latest := children;
    is_live := array_fill(false, array[count + 1]);
    for n in 1 .. count loop
        y := coalesce(nullif(parent[place[n]], 0), count + 1);
        children[y] := children[y] + 1;
    end loop;
    queue := array(select n from generate_series(1, count) as n where children[n] = 0);
    depth := 1;
    while depth <= coalesce(array_length(queue, 1), 0) loop
        x := queue[depth];
        depth := depth + 1;
        is_live[x] := is_live[x] or is_answered[x] or chosen[x] is not null;
        if latest[x] = 0 or (active[x], x) > (active[latest[x]], latest[x]) then
            latest[x] := x;
        end if;
        y := coalesce(nullif(parent[place[x]], 0), count + 1);
        if best[y] = 0 or (is_live[x], active[latest[x]], latest[x])
                          > (is_live[best[y]], active[latest[best[y]]], latest[best[y]]) then
            best[y] := x;
        end if;
        if latest[y] = 0 or (active[latest[x]], latest[x]) > (active[latest[y]], latest[y]) then
            latest[y] := latest[x];
        end if;
        is_live[y] := is_live[y] or is_live[x];
        children[y] := children[y] - 1;
        if children[y] = 0 and y <= count then
            queue := array_append(queue, y);
        end if;
    end loop;

    current := array_fill(false, array[count]);
    marked := current;
    x := best[count + 1];
    while x > 0 loop
        current[x] := true;
        x := best[x];
    end loop;
    target := array_position(ids, through);
    if target is null then
        marked := current;
    else -- up, then down
        x := target;
        while x > 0 loop
            marked[x] := true;
            x := parent[place[x]];
        end loop;
        x := best[target];
        while x > 0 loop
            marked[x] := true;
            x := best[x];
        end loop;
    end if;

    return query
        select a.id, coalesce(a.turn, 9223372036854775807), a.at, a.arrived, ids[nullif(parent[place[a.n]], 0)],
               a.on_branch, a.is_current
          from unnest(ids, is_stored, turns, said, arrivals, marked, current)
               with ordinality as a (id, is_stored, turn, at, arrived, on_branch, is_current, n)
         where a.is_stored;
end
$$;
