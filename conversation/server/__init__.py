"""gunicorn's worker and logger, as Turnlog runs them."""
