# Turnlog, with the embedded PostgreSQL in /data unless DATABASE_URL or SUPABASE_URL is set.
FROM python:3.13-slim

# fixed, so that a volume's files keep their owner from one image to the next
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /app --shell /usr/sbin/nologin turnlog \
    && install --directory --owner=turnlog --group=turnlog --mode=0750 /data

WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement requirements.txt

COPY app.py gunicorn.conf.py LICENSE ./
COPY conversation ./conversation
COPY logging_store ./logging_store
COPY supabase ./supabase

USER 10001
ENV DATA_DIR=/data TURNLOG_HOST=0.0.0.0 PORT=8000 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=4)"]

# exec form: the signals that stop the container reach gunicorn, which stops the embedded database
STOPSIGNAL SIGTERM
CMD ["gunicorn", "--config", "gunicorn.conf.py", "app:create_app()"]
