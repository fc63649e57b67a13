-- Settings of projects.
create table if not exists turnlog.ai_projects (
    project   text  not null,
    keep_days integer,                              -- null: the service's own setting
    secret    bytea not null,                       -- keys the signatures of reports and the hashes of erased users
    constraint ai_projects_pkey primary key (project),
    constraint ai_projects_project_check check (project <> ''),
    constraint ai_projects_keep_days_check check (keep_days between 1 and 36500)
);
