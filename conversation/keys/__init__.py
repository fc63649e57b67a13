"""API keys: their text, whom they admit, and the registry in the database."""
