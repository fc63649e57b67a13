"""How the service is run: gunicorn with our configuration."""
