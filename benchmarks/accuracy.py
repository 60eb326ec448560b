"""The whole test split as PNG files through `POST /v1/predict` of a real server, against the figures of evaluation.

Each exported file is served in turn; its accuracy should be the evaluation's (fp32) or the export's (int8) to the
picture.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

AT_ONCE = 50  # pictures a request


def form(pictures: NDArray[np.uint8]) -> bytes:
    """A multipart body, boundary `x`, of pictures uint8 [N, H, W] as PNG files."""
    body = io.BytesIO()
    for number, picture in enumerate(pictures):
        body.write(b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d.png"\r\n\r\n' % number)
        Image.fromarray(picture).save(body, "PNG")
        body.write(b"\r\n")
    return body.getvalue() + b"--x--\r\n"


def right_answers(models: Path, pictures: NDArray[np.uint8], names: list[str]) -> int:
    """How many pictures a server with these models gives their names."""
    env = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", "MODEL_DIR": str(models), "PAGE": "off"}
    right = 0
    command = [sys.executable, "-m", "app.main"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            address = server.stderr.readline().split()[-1]
            for start in range(0, len(pictures), AT_ONCE):
                kind = {"Content-Type": "multipart/form-data; boundary=x"}
                body = form(pictures[start : start + AT_ONCE])
                request = urllib.request.Request(f"{address}/v1/predict", body, kind)  # noqa: S310 - our own server
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    said = [entry["class"] for entry in json.load(answer)["answers"]]
                right += sum(a == b for a, b in zip(said, names[start : start + AT_ONCE], strict=True))
                server.stderr.readline()  # its line of log: an unread pipe would fill
        finally:
            server.terminate()
    return right


def main() -> None:
    """Print both counts beside what was promised; exit status 1 if they differ."""
    report = json.loads(Path("reports/export/metrics.json").read_text(encoding="utf-8"))
    evaluation = json.loads(Path("reports/evaluation/metrics.json").read_text(encoding="utf-8"))
    classes = json.loads(Path("data/prepared/meta.json").read_text(encoding="utf-8"))["classes"]
    pictures, labels = np.load("data/prepared/test.images.npy"), np.load("data/prepared/test.labels.npy")
    names = [classes[k] for k in labels]
    differs = False
    for file, promised in (("model.onnx", evaluation["accuracy"]), ("model.int8.onnx", report["int8"]["accuracy"])):
        with tempfile.TemporaryDirectory() as folder:
            models = Path(folder)
            shutil.copy(Path("models") / file, models)
            (models / "serve.json").write_text(json.dumps({"file": file}), encoding="utf-8")
            right = right_answers(models, pictures, names)
        differs |= right != round(promised * len(names))
        print(f"{file}: {right:,} of {len(names):,} over HTTP; promised {promised * len(names):,.0f}", flush=True)
    sys.exit(differs)


if __name__ == "__main__":
    main()
