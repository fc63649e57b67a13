-- Settings of projects.
create table if not exists turnlog.ai_projects (
    project   text  not null,
    keep_days integer,                              -- null: the service's own setting
    keep_text_days integer,                         -- null: the service's own setting
    expired_at timestamptz,                         -- when `turnlog expire` last ran, by the database's clock
    secret    bytea not null,                       -- keys the signatures of reports and the hashes of erased users
    constraint ai_projects_pkey primary key (project),
    constraint ai_projects_project_check check (project <> ''),
    constraint ai_projects_keep_days_check check (keep_days between 1 and 36500),
    constraint ai_projects_keep_text_days_check check (keep_text_days between 1 and 36500)
);
