-- Traces of which spans came. Whoever writes spans of a trace locks its row first.
create table if not exists turnlog.ai_traces (
    project        text        not null,
    trace_id       text        not null,
    session_id     uuid        not null,            -- of the session that its calls have while nothing names one
    caller_span    text,                            -- the first of its spans, by id, on which a caller named a session
    caller_several boolean     not null default false, -- callers named several sessions
    library_span   text,                            -- likewise: a library named one
    user_span      text,                            -- likewise: a user
    linked         text[],                          -- some of the traces with which it has calls in common: locked with it
    created_at     timestamptz not null,
    erased_at      timestamptz,                     -- when that session of its own was erased: nothing is added to it
    constraint ai_traces_pkey primary key (project, trace_id)
);

-- Spans: the calls of a model among them are interactions. What a span says of a conversation isn't kept here.
create table if not exists turnlog.ai_spans (
    project        text        not null,
    trace_id       text        not null,
    span_id        text        not null,
    parent_id      text,
    name           text,
    kind           text,                            -- null: only feedback on it came
    scope          text,                            -- its instrumentation
    started_at     timestamptz,
    completed_at   timestamptz,
    session_key    text,                            -- the session that stands on the span itself,
    stated_session uuid,                            --   its id,
    by_caller      boolean,                         --   and whether a caller named it, not a library
    user_id        text,                            -- the user that stands on it
    caller_span    text,                            -- it, or the closest span above, on which a caller named a session
    library_span   text,                            -- likewise: a library named one
    user_span      text,                            -- likewise: a user
    response_id    text,                            -- the provider's
    repeats        boolean     not null default false, -- another span had this response_id before
    model          text,
    failed         boolean,
    same_call_as   text,                            -- TRACE/SPAN of one that is known to be of the same call
    rank           integer,                         -- among the spans of its call, before the times; null: only log events
                                                    --   of it came
    call_spans     text[],                          -- TRACE/SPAN of all spans of its call, in order; null: only itself
    id             uuid        not null,            -- of the call's interaction, if the span is the first of call_spans
    session_id     uuid,                            -- the session that it belongs to, where its call's interaction is
    participant    text,                            -- that interaction's
    fields         text[],                          -- of the interaction: those that the span said,
    event_fields   text[],                          --   and those that log events said
    has_feedback   boolean,
    created_at     timestamptz not null,            -- when the service first received it
    erased_at      timestamptz,                     -- set: a tombstone with its place in the trace,
    response_hash  bytea,                           --   and with what recognises another span of its call: see
    scope_hash     bytea,                           --   turnlog.twin_hash
    constraint ai_spans_pkey primary key (project, trace_id, span_id),
    constraint ai_spans_call_spans_check check (cardinality(call_spans) > 1)
);

-- All of them are partial, so that the planner can't use them in place of the primary key: see ai_sessions.
-- The children of a span, in order.
create index if not exists ai_spans_parent_idx
    on turnlog.ai_spans (project, trace_id, parent_id, started_at) where parent_id is not null;
-- Joins the spans of one call. It is unique so that of two writers that have one each, the later one waits and finds it.
create unique index if not exists ai_spans_response_key
    on turnlog.ai_spans (project, response_id) where response_id is not null and not repeats;
create index if not exists ai_spans_repeated_response_idx
    on turnlog.ai_spans (project, response_id, started_at) where response_id is not null and repeats;
create index if not exists ai_spans_same_call_idx
    on turnlog.ai_spans (project, same_call_as) where same_call_as is not null;
create index if not exists ai_spans_response_hash_idx
    on turnlog.ai_spans (project, response_hash) where response_hash is not null;
-- For erasing.
create index if not exists ai_spans_session_idx
    on turnlog.ai_spans (project, session_id) where session_id is not null;
create index if not exists ai_spans_user_idx on turnlog.ai_spans (project, user_id) where user_id is not null;
create index if not exists ai_spans_participant_idx
    on turnlog.ai_spans (project, participant) where participant is not null;
