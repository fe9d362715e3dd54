# The operator and the worker library, as two images:
#
#   docker build --target operator -t celeriac-operator .
#   docker build --target worker   -t celeriac-worker .
#
# Neither needs a shell, a writable root file system or root. BASE_IMAGE is any Debian with Python 3.11 or newer, its
# venv module and CA certificates; where there is no image registry, `python -m localcluster images` makes one.
ARG BASE_IMAGE=python:3.13-slim-trixie

# What builds and installs, and stays behind: pip of its own environment, hatchling.
FROM ${BASE_IMAGE} AS tools
COPY tools/localcluster/wheel-requirements.lock /tmp/requirements.lock
RUN python3 -m venv /tools \
 && /tools/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.lock

# The dependencies change seldom and the source often: each has a layer of its own in the image.
FROM tools AS operator-dependencies
COPY operator/requirements.lock /tmp/requirements.lock
RUN python3 -m venv --without-pip /opt/celeriac \
 && /tools/bin/python -m pip --python /opt/celeriac/bin/python install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.lock

FROM operator-dependencies AS operator-package
COPY operator /src
RUN cd /src && /tools/bin/python -m hatchling build --target wheel --directory /wheels \
 && /tools/bin/python -m pip --python /opt/celeriac/bin/python install --quiet --no-cache-dir --disable-pip-version-check --no-deps --no-index --root /package /wheels/*.whl

FROM tools AS worker-dependencies
COPY worker/requirements.lock /tmp/requirements.lock
RUN python3 -m venv --without-pip /opt/celeriac \
 && /tools/bin/python -m pip --python /opt/celeriac/bin/python install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.lock

FROM worker-dependencies AS worker-package
COPY worker /src
RUN cd /src && /tools/bin/python -m hatchling build --target wheel --directory /wheels \
 && /tools/bin/python -m pip --python /opt/celeriac/bin/python install --quiet --no-cache-dir --disable-pip-version-check --no-deps --no-index --root /package /wheels/*.whl

# The operator.
FROM ${BASE_IMAGE} AS operator
LABEL org.opencontainers.image.title="celeriac-operator" \
      org.opencontainers.image.description="Kubernetes operator for Celery worker pools" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://celeriac.dev"
ENV PATH=/opt/celeriac/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
ENTRYPOINT ["python", "-m", "celeriac_operator"]
CMD []
COPY --from=operator-dependencies /opt/celeriac /opt/celeriac
COPY --from=operator-package /package /

# The worker library with Celery: fills the injection volume of pools that run other images, and is a base for those that
# want to have it inside.
FROM ${BASE_IMAGE} AS worker
LABEL org.opencontainers.image.title="celeriac-worker" \
      org.opencontainers.image.description="Celery with the Celeriac worker library" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://celeriac.dev"
ENV PATH=/opt/celeriac/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
ENTRYPOINT []
CMD ["python", "-m", "celeriac", "--help"]
COPY --from=worker-dependencies /opt/celeriac /opt/celeriac
COPY --from=worker-package /package /
