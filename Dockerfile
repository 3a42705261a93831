# syntax=docker/dockerfile:1
# The base comes by digest: --build-arg BASE=python:3.12-slim-bookworm@sha256:...
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/r2star
COPY requirements.lock requirements-build.lock ./
RUN /opt/r2star/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
RUN python3 -m venv /opt/build \
    && /opt/build/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-build.lock
COPY . .
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /dist \
    && /opt/r2star/bin/python -m pip install --no-cache-dir --no-deps --no-index /dist/*.whl \
    && /opt/r2star/bin/python -m compileall -q /opt/r2star/lib \
    && /opt/r2star/bin/python scripts/warm-kernels

FROM ${BASE}
LABEL org.opencontainers.image.title="r2star" \
      org.opencontainers.image.description="R2* maps, regional iron and cohort statistics from multi-echo gradient-echo MRI" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/r2star /opt/r2star
ENV PATH=/opt/r2star/bin:$PATH PYTHONUNBUFFERED=1 NO_ET=1 NIPYPE_NO_ET=1 MPLCONFIGDIR=/tmp/matplotlib
USER 1000:1000
HEALTHCHECK CMD ["r2star", "--version"]
ENTRYPOINT ["r2star"]
