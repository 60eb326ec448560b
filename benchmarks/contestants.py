"""What the app is measured against: servers with one route, POST /predict, multipart `file`; and the model alone.

`python -m benchmarks.contestants bare MODEL.onnx` is what is left of a server without any check: it shows what the
app's checks cost. `python -m benchmarks.contestants ancestor [THREADS]` is the recipe of many a course: torchvision's
ResNet-18 in FastAPI. Its weights are random, which costs the same.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import time
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

SIZE = (28, 28)
CLASSES = 10


@functools.cache
def session(path: str) -> ort.InferenceSession:
    """The model, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def floor(path: str, seconds: float) -> float:
    """Processor milliseconds of one picture in `session.run`, and nothing around it, measured for so long."""
    run = session(path).run
    picture = np.random.default_rng(0).integers(0, 256, (1, *SIZE), np.uint8)
    run(None, {"image": picture})
    calls, ends, cpu = 0, time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < ends:
        run(None, {"image": picture})
        calls += 1
    return (time.process_time() - cpu) / calls * 1000


def bare(path: str) -> FastAPI:
    """onnxruntime in one route."""
    model, app = session(path), FastAPI()

    @app.post("/predict")
    async def predict(file: UploadFile) -> dict[str, Any]:
        image = Image.open(io.BytesIO(await file.read())).convert("L").resize(SIZE)
        probabilities = model.run(["probabilities"], {"image": np.asarray(image)[None]})[0][0]
        return {"class": int(probabilities.argmax()), "probabilities": probabilities.tolist()}

    return app


def ancestor(threads: int | None) -> FastAPI:
    """torch and torchvision in one route; with None as many threads as torch chooses."""
    import torch
    from torch import nn
    from torchvision import models, transforms

    if threads:
        torch.set_num_threads(threads)
    network = models.resnet18(weights=None, num_classes=CLASSES)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)  # one channel: grey
    network.eval()
    prepare = transforms.Compose([transforms.Grayscale(), transforms.Resize(SIZE), transforms.ToTensor()])
    app = FastAPI()

    @app.post("/predict")
    async def predict(file: UploadFile) -> dict[str, Any]:
        image = prepare(Image.open(io.BytesIO(await file.read())))
        with torch.no_grad():
            probabilities = torch.softmax(network(image[None]), 1)[0]
        return {"class": int(probabilities.argmax()), "probabilities": probabilities.tolist()}

    return app


def main() -> None:
    """Serve the contestant that the command line names, on 127.0.0.1 and PORT."""
    name, *rest = sys.argv[1:]
    app = bare(*rest) if name == "bare" else ancestor(int(rest[0]) if rest else None)
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning")


if __name__ == "__main__":
    main()
