-- What the service knows of a project.
create table if not exists turnlog.ai_projects (
    project   text  not null,
    keep_days integer,                              -- null: as the service's own setting says
    secret    bytea not null,                       -- signs reports, and hides the names of erased users
    constraint ai_projects_pkey primary key (project),
    constraint ai_projects_project_check check (project <> ''),
    constraint ai_projects_keep_days_check check (keep_days between 1 and 36500)
);
