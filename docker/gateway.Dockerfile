# syntax=docker/dockerfile:1
# The gateway: gRPC on 50051, HTTP on 8000. Without torch; size: see docs/deploy.md.
#   docker build -f docker/gateway.Dockerfile -t paceline-gateway:0.1.0 .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS tools
ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir uv==${UV_VERSION}
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build

FROM tools AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY paceline paceline
COPY gateway gateway
COPY drafter_service drafter_service
COPY verifier_service verifier_service
RUN uv build --wheel --out-dir /wheels

# What changes seldom comes first: dependencies stay in the cache of layers while the code changes.
FROM tools AS environment
ENV VIRTUAL_ENV=/opt/paceline
RUN uv venv /opt/paceline
COPY pyproject.toml requirements.lock ./
RUN uv pip install --compile-bytecode --constraint requirements.lock --requirement pyproject.toml
COPY --from=wheel /wheels /wheels
RUN uv pip install --compile-bytecode --no-deps /wheels/*.whl

FROM ${PYTHON_IMAGE} AS gateway
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="paceline-gateway" \
      org.opencontainers.image.description="Paceline: the gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN useradd --uid 10001 --create-home --home-dir /var/lib/paceline paceline
ENV PATH=/opt/paceline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=environment /opt/paceline /opt/paceline
USER 10001:10001
WORKDIR /var/lib/paceline
EXPOSE 50051 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["paceline", "probe", "127.0.0.1:50051"]
ENTRYPOINT ["python", "-m", "gateway"]
