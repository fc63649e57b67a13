"""What gunicorn runs: the worker and the logger."""
