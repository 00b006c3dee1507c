# Two results in one: an image that serves, and the folder /opt/respool, which carries its own Python, SQLite and C library
# and can be copied into other images that have a shell and readlink:
#
#     COPY --from=respool /opt/respool /opt/respool
#     ENTRYPOINT ["/opt/respool/bin/respool", "run", "--"]

# SQLite before 3.51.3 may lose commits when two connections write or checkpoint at once; Debian's stable release has it.
FROM debian:forky-slim AS sqlite
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libsqlite3-0 \
 && cp --dereference /usr/lib/*/libsqlite3.so.0 / \
 && rm -rf /var/lib/apt/lists/*

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY cli cli
COPY proxy proxy
COPY store store
# The secrets are for machines behind a package mirror; without them pip does what it always does.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi \
 && python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt . \
 && /venv/bin/pip uninstall --yes pip
COPY .docker/bundle.py /source/.docker/bundle.py
COPY --from=sqlite /libsqlite3.so.0 /sqlite/libsqlite3.so.0
RUN python .docker/bundle.py /venv/lib/python3.*/site-packages /opt/respool /sqlite/libsqlite3.so.0 \
 && /opt/respool/bin/python -c "import sqlite3; assert sqlite3.sqlite_version_info >= (3, 51, 3), sqlite3.sqlite_version"

FROM debian:trixie-slim
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="respool" \
      org.opencontainers.image.description="A sidecar that makes any Responses API agent resumable" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

COPY --from=build /opt/respool /opt/respool
RUN install --directory --owner=10001 --group=10001 --mode=0750 /data
VOLUME /data
USER 10001:10001

ENV PATH="/opt/respool/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    RESPOOL_STORE="sqlite:////data/respool.db" \
    RESPOOL_LISTEN="0.0.0.0:8088"
EXPOSE 8088
STOPSIGNAL SIGTERM

# RESPOOL_LISTEN may have been set to another port, so the check asks it; any address of ours is reached by 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/opt/respool/bin/python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:%s/_respool/health' % os.environ['RESPOOL_LISTEN'].rpartition(':')[2], timeout=4)"]

ENTRYPOINT ["/opt/respool/bin/respool"]
CMD ["serve"]
