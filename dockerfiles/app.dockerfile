# The app: REST and the page, with the model that models/ serves. docs/images.md has what was measured.
FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM docker.io/library/python:3.11-slim-bookworm AS build
COPY requirements/app.txt /tmp/app.txt
ENV VIRTUAL_ENV=/opt/atelier
RUN --mount=type=bind,from=uv,source=/uv,target=/usr/local/bin/uv \
    uv venv --no-cache /opt/atelier && uv pip install --no-cache --require-hashes --requirement /tmp/app.txt

# What serving never opens. docs/images.md says of each why that is safe.
# - onnxruntime: the library for programs in C (Python's has all of it inside), tools for making and converting models
# - gradio: its server-side rendering (needs Node), the video editor and Bokeh of components we have not, example media
# - hf_xet: fetches from a model hub; AVIF: a format that the app refuses anyhow
# - what packages are tested and built with; stubs for editors; commands, for nobody types here
WORKDIR /opt/atelier/lib/python3.11/site-packages
RUN rm -rf onnxruntime/capi/libonnxruntime.so* onnxruntime/transformers onnxruntime/quantization onnxruntime/tools \
    onnxruntime/datasets onnxruntime/backend \
    gradio/templates/node gradio/templates/frontend/static/ffmpeg gradio/templates/frontend/static/bokeh \
    gradio/media_assets gradio/test_data \
    hf_xet hf_xet-*.dist-info PIL/_avif.*.so pillow.libs/libavif-* \
    numpy/f2py numpy/distutils numpy/_core/include numpy/_core/lib \
    && find . -depth -type d \( -name tests -o -name test \) -exec rm -rf {} + \
    && find . -type f \( -name '*.pyi' -o -name 'CHANGELOG.md' -o -name '*.pxd' -o -name '*.h' \) -delete \
    && find /opt/atelier/bin -type f ! -name 'python*' -delete

# The served model, its card, its evaluation and its samples, for the page shows them; not the file that is not served.
WORKDIR /model
COPY models/ all/
ARG MODEL_SHA256=""
RUN served="$(python -c 'import json; print(json.load(open("all/serve.json"))["file"])')" \
    && mv all/serve.json "all/$served" all/README.md . \
    && for shown in evaluation.json mistakes.png samples; do [ ! -e "all/$shown" ] || mv "all/$shown" .; done \
    && rm -r all \
    && if [ -n "$MODEL_SHA256" ]; then echo "$MODEL_SHA256  $served" > /tmp/sum && sha256sum --check /tmp/sum; fi

# Nobody can write bytecode later. By hash and unchecked, since copying may change the times that it would be compared by.
# Whoever built this may have kept the files for themselves, by umask: here another user reads them.
WORKDIR /srv/atelier
COPY app/ app/
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash app /opt/atelier/lib \
    && chmod -R a+rX app /model


FROM docker.io/library/python:3.11-slim-bookworm
# The base comes without bytecode of Python's own library. pip and its kin are for people who install, which nobody does.
RUN rm -rf /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip /usr/local/bin/pip* \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x '/(idlelib|lib2to3|tkinter|turtledemo|test|distutils|msilib|pydoc_data)/' /usr/local/lib/python3.11
COPY --from=build /opt/atelier /opt/atelier
COPY --from=build /srv/atelier /srv/atelier
COPY --from=build /model /srv/atelier/models
WORKDIR /srv/atelier
# HOME is where libraries put what they want to keep: of a read-only container, /tmp is the part that can be written.
ENV PATH=/opt/atelier/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp HOST=0.0.0.0 PORT=8080 LOG_FORMAT=json
EXPOSE 8080
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-ISc", \
    "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app.main"]

ARG COMMIT=""
ARG MODEL_SHA256=""
LABEL org.opencontainers.image.title="Atelier" \
    org.opencontainers.image.description="Garment pictures in, their classes out: REST and a page" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.revision=$COMMIT \
    atelier.model.sha256=$MODEL_SHA256
