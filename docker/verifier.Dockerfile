# syntax=docker/dockerfile:1
# The verifier: gRPC on 50052. Two targets, for processors and for NVIDIA's GPUs; sizes: see docs/deploy.md.
#   docker build -f docker/verifier.Dockerfile --target cpu -t paceline-verifier:0.1.0-cpu .
#   docker build -f docker/verifier.Dockerfile --target gpu -t paceline-verifier:0.1.0-gpu .
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

# A build of torch for processors is 2 GB smaller than the one with CUDA.
FROM environment AS environment-cpu
ARG UV_TORCH_BACKEND=cpu
RUN uv pip install --compile-bytecode --constraint requirements.lock --requirement pyproject.toml --extra engine
COPY --from=wheel /wheels /wheels
RUN uv pip install --compile-bytecode --no-deps /wheels/*.whl

FROM environment AS environment-gpu
RUN uv pip install --compile-bytecode --constraint requirements.lock --requirement pyproject.toml --extra engine
COPY --from=wheel /wheels /wheels
RUN uv pip install --compile-bytecode --no-deps /wheels/*.whl

# What hub ids name is kept below /models: a volume there is its cache.
FROM ${PYTHON_IMAGE} AS service
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="paceline-verifier" \
      org.opencontainers.image.description="Paceline: the verifier, which holds the target model" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN useradd --uid 10001 --create-home --home-dir /var/lib/paceline paceline \
    && install --directory --owner 10001 --group 10001 /models
ENV PATH=/opt/paceline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HOME=/models/hub
USER 10001:10001
WORKDIR /var/lib/paceline
EXPOSE 50052
HEALTHCHECK --interval=30s --timeout=10s --start-period=600s CMD ["paceline", "probe", "127.0.0.1:50052"]
ENTRYPOINT ["python", "-m", "verifier_service"]

# The driver comes from the host, CUDA's libraries with torch.
FROM service AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=environment-gpu /opt/paceline /opt/paceline

FROM service AS cpu
COPY --from=environment-cpu /opt/paceline /opt/paceline
