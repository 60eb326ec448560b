# The pipeline, for a machine with or without a GPU. docs/images.md has what was measured.
FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM docker.io/library/python:3.11-slim-bookworm
# torch's own wheels bring CUDA along; the driver is the machine's. Four processes a run import torch, and none of them may
# write bytecode, so it is made here.
COPY requirements/train.txt /tmp/train.txt
ENV VIRTUAL_ENV=/opt/atelier
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    uv venv --no-cache /opt/atelier \
    && uv pip install --no-cache --compile-bytecode --require-hashes --requirement /tmp/train.txt

# The user owns the folder: DVC writes its cache, its lock and what the stages make beside the code. HOME and what DVC keeps
# of a machine are below /tmp, and it asks for the user's name, so that a read-only container needs no more than /tmp and this folder to write to.
WORKDIR /atelier
RUN chown 10001:10001 /atelier
COPY --chown=10001:10001 .dvcignore dvc.yaml dvc.lock params.yaml pyproject.toml invoke.yaml tasks.py ./
COPY --chown=10001:10001 .dvc/ .dvc/
COPY --chown=10001:10001 data/ data/
COPY --chown=10001:10001 app/ app/
COPY --chown=10001:10001 stages/ stages/
COPY --chown=10001:10001 deploy/ deploy/
# There is neither git nor a repository: DVC has to be told.
RUN printf '[core]\n    no_scm = true\n' > .dvc/config.local && chown 10001:10001 .dvc/config.local
# Some of Google's machines put the driver's libraries where the loader does not look.
ENV PATH=/opt/atelier/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp USER=atelier DVC_SITE_CACHE_DIR=/tmp/dvc MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "deploy.job"]

ARG COMMIT=""
LABEL org.opencontainers.image.title="Atelier, training" \
    org.opencontainers.image.description="Runs the pipeline, and leaves its results in a bucket" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.revision=$COMMIT
