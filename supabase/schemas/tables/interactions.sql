-- Interactions: one prompt and its response each.
create table if not exists turnlog.ai_interactions (
    project         text        not null,
    session_id      uuid        not null,
    id              uuid        not null,
    key             text,                           -- the caller's own id; the id derives from session and key
    prompt          jsonb,                          -- a text, or a list of messages, or how turnlog.by_content stores it
    response        jsonb,                          -- likewise
    context         jsonb,                          -- {}: there is one
    instructions    uuid,                           -- in ai_messages: those that context or prompt begin with
    context_end     uuid,                           -- the history that ends with the context
    prompt_end      uuid,                           -- with the prompt
    response_end    uuid,                           -- with the response
    model           text,
    provider        text,
    status          text,                           -- null: derived from error and response on reading
    error           text,
    finish_reason   text,
    started_at      timestamptz,
    completed_at    timestamptz,
    latency_ms      double precision,
    time_to_first_token_ms double precision,
    input_tokens    bigint,
    output_tokens   bigint,
    cached_input_tokens bigint,                     -- of the input tokens: read from the provider's cache
    cache_write_tokens bigint,                      -- of the input tokens: written to it
    reasoning_tokens bigint,                        -- of the output tokens: spent on reasoning
    cost_usd        numeric,
    participant     text,
    reply_to        uuid,                           -- the interaction that it follows
    alternative_to  uuid,                           -- the interaction in whose place it stands: it follows the same one
    chosen_at       timestamptz,                    -- when somebody made it the current one of its alternatives
    turn            bigint,                         -- the caller's own counter
    trace_id        text,                           -- of the span, as OpenTelemetry has it, that the call is
    span_id         text,
    tags            text[],
    metadata        jsonb,
    ranks           jsonb,                          -- of what some fields come from: see turnlog.interaction_rule
    created_at      timestamptz not null,           -- when the service first received it
    erased_at       timestamptz,                    -- set: a tombstone; all it said is gone
    text_expired_at timestamptz,                    -- set: its texts are gone, see turnlog.expire_texts
    constraint ai_interactions_pkey primary key (project, session_id, id),
    constraint ai_interactions_session_fkey foreign key (project, session_id)
        references turnlog.ai_sessions (project, id),
    constraint ai_interactions_id_check check (id <> '00000000-0000-0000-0000-000000000000'),
    constraint ai_interactions_key_check check (key !~* '^(\s*|null|undefined|none)$' and length(key) <= 2500),
    constraint ai_interactions_prompt_check check (jsonb_typeof(prompt) in ('string', 'array') or prompt_end is not null),
    constraint ai_interactions_response_check check (jsonb_typeof(response) in ('string', 'array') or response_end is not null),
    constraint ai_interactions_status_check check (status in ('pending', 'completed', 'failed', 'abandoned')),
    constraint ai_interactions_metadata_check check (jsonb_typeof(metadata) = 'object'),
    constraint ai_interactions_ranks_check check (jsonb_typeof(ranks) = 'object')
);

-- A second line of defence, as for sessions. A composite key may be longer than an index entry: it has none then.
create unique index if not exists ai_interactions_session_key_key
    on turnlog.ai_interactions (project, session_id, key) where octet_length(key) <= 2000;

-- For the search, newest first, and for the overview.
create index if not exists ai_interactions_newest_idx
    on turnlog.ai_interactions (project, (coalesce(started_at, created_at)) desc, session_id desc, id desc);
-- Tells a linear session from one with branches; few interactions name another one.
create index if not exists ai_interactions_named_idx
    on turnlog.ai_interactions (project, session_id) where reply_to is not null or alternative_to is not null;
-- In the order of arrival, so writes append to it, and one entry covers the interactions that a session got at once.
create index if not exists ai_interactions_arrived_idx
    on turnlog.ai_interactions (project, created_at, session_id);
-- Finds the sessions that used a model, and whether one session did.
create index if not exists ai_interactions_model_idx
    on turnlog.ai_interactions (project, model, session_id) where model is not null;
-- Failures are few, and rare ones matter most: with indexes of their own, no sample misses them.
create index if not exists ai_interactions_failed_idx
    on turnlog.ai_interactions (project, session_id) where status = 'failed' or status is null and error <> '';
create index if not exists ai_interactions_failed_began_idx
    on turnlog.ai_interactions (project, (coalesce(started_at, created_at)))
    where status = 'failed' or status is null and error <> '';

-- lz4 writes long texts about half as fast again as pglz does; a server built without it keeps pglz.
do $$
begin
    alter table turnlog.ai_interactions
        alter column prompt set compression lz4,
        alter column response set compression lz4,
        alter column metadata set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL was built without lz4: prompts and responses keep pglz';
end
$$;
