FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY cli cli
COPY proxy proxy
COPY store store
RUN python -m venv /opt/respool \
 && /opt/respool/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt . \
 && /opt/respool/bin/pip uninstall --yes pip

FROM python:3.13-slim
LABEL org.opencontainers.image.title="respool" \
      org.opencontainers.image.description="A sidecar that makes any Responses API agent resumable" \
      org.opencontainers.image.licenses="MIT"

COPY --from=build /opt/respool /opt/respool
RUN install --directory --owner=10001 --group=10001 --mode=0750 /data
VOLUME /data
USER 10001:10001

ENV PATH="/opt/respool/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    RESPOOL_STORE="sqlite:////data/respool.db" \
    RESPOOL_LISTEN="0.0.0.0:8080"
EXPOSE 8080
STOPSIGNAL SIGTERM

# RESPOOL_LISTEN may have been set to another port, so the check asks it; any address of ours is reached by 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:%s/_respool/health' % os.environ['RESPOOL_LISTEN'].rpartition(':')[2], timeout=4)"]

ENTRYPOINT ["respool"]
CMD ["serve"]
