# syntax=docker/dockerfile:1
# The base is pinned by its digest; another one: --build-arg BASE=python:3.12-slim-bookworm@sha256:...
ARG BASE=python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/build \
    && /opt/build/bin/python -m pip install --require-hashes -r requirements-build.lock \
    && python3 -m venv /opt/r2star \
    && /opt/r2star/bin/python -m pip install --require-hashes -r requirements.lock
COPY . .
# byte code and compiled kernels belong to the image: whoever runs it may write neither. Tests of libraries,
# headers and pip do not: nothing of them is used at run time
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /dist \
    && /opt/r2star/bin/python -m pip install --no-deps --no-index /dist/*.whl \
    && /opt/r2star/bin/python -m pip uninstall --yes --quiet pip \
    && find /opt/r2star/lib -depth -type d \( -name tests -o -path '*/pyarrow/include' \) -exec rm -rf {} + \
    && env -u PYTHONDONTWRITEBYTECODE /opt/r2star/bin/python -m compileall -q -j 0 /opt/r2star/lib \
    && env -u PYTHONDONTWRITEBYTECODE /opt/r2star/bin/python scripts/warm-kernels

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="r2star" \
      org.opencontainers.image.description="R2* maps, regional iron and cohort statistics from multi-echo gradient-echo MRI" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/r2star /opt/r2star
ENV PATH=/opt/r2star/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NO_ET=1 NIPYPE_NO_ET=1 MPLBACKEND=Agg MPLCONFIGDIR=/tmp/matplotlib LC_ALL=C.UTF-8
USER 1000:1000
HEALTHCHECK CMD ["r2star", "--version"]
ENTRYPOINT ["r2star"]
