-- Guests who became users: what names a guest, however late, is the user's. See turnlog.merge_user.
create table if not exists turnlog.ai_user_merges (
    project   text        not null,
    guest     text        not null,
    into_user text        not null,                 -- never a guest of this table itself
    merged_at timestamptz not null,
    constraint ai_user_merges_pkey primary key (project, guest),
    constraint ai_user_merges_guest_check check (guest !~ '^\s*$' and length(guest) <= 200),
    constraint ai_user_merges_into_user_check check (
        into_user !~ '^\s*$' and length(into_user) <= 200 and into_user <> guest)
);

create index if not exists ai_user_merges_into_user_idx on turnlog.ai_user_merges (project, into_user);
