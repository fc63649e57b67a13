create or replace trigger ai_interactions_queue after insert on turnlog.ai_interactions
    referencing new table as written for each statement execute function turnlog.queue();
create or replace trigger ai_interactions_requeue after update on turnlog.ai_interactions
    referencing old table as was new table as written for each statement execute function turnlog.requeue();
create or replace trigger ai_interactions_unindex after delete on turnlog.ai_interactions
    referencing old table as gone for each statement execute function turnlog.unindex();
