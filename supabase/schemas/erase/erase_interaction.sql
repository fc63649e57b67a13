-- Erases one interaction with the feedback on it: see turnlog.blank_interactions. A further call changes nothing.
-- `dry_run` only counts. `ensure` leaves a tombstone even of an interaction that isn't stored: {owner, created_at} of its
-- session, which is created if it isn't there.
-- Takes {project, session_id, interaction_id, dry_run?, ensure?}. Returns {session: {session_id, key, erased_at} or
-- null, erased: {interaction_id, erased_at, interactions, participants, feedback, proof} or null}; `erased` is null if
-- there is no such interaction, or the whole session was erased. `proof` is a query that counts what remains.
create or replace function turnlog.erase_interaction(request jsonb) returns jsonb
language plpgsql volatile
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off -- one session's rows, never a whole table, whatever its statistics say
set lock_timeout = '3s'
as $$
declare
    in_project constant text := request ->> 'project';
    of_session constant uuid := request ->> 'session_id';
    of_interaction constant uuid := request ->> 'interaction_id';
    dry_run constant boolean := coalesce((request ->> 'dry_run')::boolean, false);
    owner constant text := request #>> '{ensure,owner}';
    stored turnlog.ai_sessions;
    interaction turnlog.ai_interactions;
    step record;
    reference jsonb;
begin
    if dry_run then
        select s.* into stored from turnlog.ai_sessions as s where s.project = in_project and s.id = of_session;
    else
        if request ? 'ensure' then
            insert into turnlog.ai_sessions (project, id, implicit, user_id, claim, created_at)
            values (in_project, of_session, true, case when owner like 'user:%' then substr(owner, 6) end,
                    case when owner like 'token:%' then owner end, (request #>> '{ensure,created_at}')::timestamptz)
                on conflict do nothing;
        end if;
        -- lock first, by a statement of its own: what follows then sees every write that committed before
        select s.* into stored
          from turnlog.ai_sessions as s
         where s.project = in_project and s.id = of_session
           for update;
    end if;
    if stored.id is not null then
        reference := jsonb_build_object('session_id', stored.id, 'key', stored.key, 'erased_at', stored.erased_at);
    end if;
    select i.* into interaction
      from turnlog.ai_interactions as i
     where i.project = in_project and i.session_id = of_session and i.id = of_interaction;
    if stored.erased_at is not null or interaction.id is null and not request ? 'ensure' then
        return jsonb_build_object('session', reference, 'erased', null);
    end if;

    if dry_run then
        select (interaction.erased_at is null and interaction.id is not null)::integer::bigint as interactions,
               (select count(*) from turnlog.ai_session_participants as p
                 where p.project = in_project and p.session_id = of_session and p.participant = interaction.participant
                   and p.role is null and p.state is null
                   and not exists (select from turnlog.ai_interactions as i
                                    where i.project = in_project and i.session_id = of_session
                                      and i.participant = p.participant and i.id <> of_interaction)) as participants,
               (select count(*) from turnlog.ai_feedback as f
                 where f.project = in_project and f.session_id = of_session
                   and f.interaction_id = of_interaction) as feedback
          into step;
    else
        if interaction.id is null then
            insert into turnlog.ai_interactions (project, session_id, id, created_at)
            values (in_project, of_session, of_interaction, statement_timestamp());
        end if;
        select b.* into step from turnlog.blank_interactions(in_project, array[of_session], array[of_interaction]) as b;
        if interaction.id is null then
            step.interactions := 0::bigint; -- only the tombstone
        end if;
        select i.* into interaction
          from turnlog.ai_interactions as i
         where i.project = in_project and i.session_id = of_session and i.id = of_interaction;
    end if;
    return jsonb_build_object('session', reference, 'erased', jsonb_build_object(
        'interaction_id', of_interaction, 'erased_at', interaction.erased_at, 'interactions', step.interactions,
        'participants', step.participants, 'feedback', step.feedback,
        'proof', format(
            'select (select count(*) from turnlog.ai_interactions where project = %1$L and session_id = %2$L and id = %3$L'
            ' and (erased_at is null or prompt <> ''"[erased]"'' or response <> ''"[erased]"'''
            ' or num_nonnulls(error, finish_reason, tags, metadata, key, participant) > 0))'
            ' + (select count(*) from turnlog.ai_revisions where project = %1$L and session_id = %2$L'
            ' and interaction_id = %3$L)'
            ' + (select count(*) from turnlog.ai_feedback where project = %1$L and session_id = %2$L'
            ' and interaction_id = %3$L) as remaining', in_project, of_session, of_interaction)));
end
$$;
