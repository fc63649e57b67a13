"""The database: its functions, reached by psycopg or through Supabase's API."""
