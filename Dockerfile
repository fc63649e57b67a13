# Turnlog, with the embedded PostgreSQL in /data unless DATABASE_URL or SUPABASE_URL is set.
FROM python:3.13-slim AS wheel
WORKDIR /build
COPY requirements-build.txt ./
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement requirements-build.txt
COPY pyproject.toml README.md LICENSE app.py gunicorn.conf.py ./
COPY conversation ./conversation
COPY logging_store ./logging_store
COPY supabase/migrations ./supabase/migrations
RUN python -m hatchling build -t wheel

FROM python:3.13-slim

# fixed, so that a volume's files keep their owner from one image to the next
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin turnlog \
    && install --directory --owner=turnlog --group=turnlog --mode=0750 /data

COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement requirements.txt
COPY --from=wheel /build/dist/ /tmp/dist/
RUN pip install --no-cache-dir --no-deps /tmp/dist/turnlog_server-*.whl && rm -r /tmp/dist

USER 10001
WORKDIR /data
ENV DATA_DIR=/data TURNLOG_HOST=0.0.0.0 PORT=8000 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=4)"]

# exec form: the signals that stop the container reach gunicorn, which stops the embedded database.
# `docker compose exec turnlog turnlog keys list` and all other commands work beside it.
STOPSIGNAL SIGTERM
CMD ["turnlog", "serve"]
