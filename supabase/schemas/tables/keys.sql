-- API keys. A key is looked up by its digest, whatever its project: on Citus this small table is a reference table.
create table if not exists turnlog.ai_keys (
    project      text        not null,
    id           uuid        not null,
    family       uuid        not null,                  -- the first of the keys that replaced each other
    kind         text        not null,
    digest       bytea       not null,                  -- SHA-256 of the key, which isn't stored
    hint         text        not null,                  -- its first characters, to tell keys apart
    name         text,
    scopes       text[]      not null,
    origins      text[]      not null default '{}',     -- origins of pages that may use it; none for secret keys
    token_secret text        not null,                  -- signs the session tokens of its family
    created_at   timestamptz not null,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,                           -- to the minute
    constraint ai_keys_pkey primary key (project, id),
    constraint ai_keys_project_check check (project <> ''),
    constraint ai_keys_kind_check check (kind in ('secret', 'publishable')),
    constraint ai_keys_digest_check check (octet_length(digest) = 32),
    constraint ai_keys_scopes_check check (
        scopes <@ '{log,read,edit,erase,admin}'::text[] and cardinality(scopes) > 0
        and (kind = 'secret' or scopes = '{log}'::text[])),
    constraint ai_keys_origins_check check ((kind = 'publishable') = (cardinality(origins) > 0))
);

create unique index if not exists ai_keys_digest_key on turnlog.ai_keys (digest);
