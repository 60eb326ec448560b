"""Asks a running service whether it is the one that was meant: ready, the right model, the right answers, refusals."""

import json
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.gcloud import CloudError

PICTURES = 10
NEAR = 0.01  # of a probability; another processor rounds otherwise
BAD = b"this is no picture"


@dataclass(frozen=True)
class Reply:
    """What came back: the status, or 0 and why there was none."""

    status: int
    body: bytes

    @property
    def said(self) -> str:
        """The beginning of the body, on one line."""
        return " ".join(self.body[:200].decode(errors="replace").split())


def ask(url: str, picture: bytes | None = None, timeout: float = 15, token: str = "") -> Reply:
    """GET, or POST a picture as a form's `files`; with somebody's token if there is one."""
    request = urllib.request.Request(url)  # noqa: S310 - the service's own https address, as gcloud gave it
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if picture is not None:
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        request.data = head.encode() + picture + f"\r\n--{mark}--\r\n".encode()
        request.add_header("Content-Type", f"multipart/form-data; boundary={mark}")
    try:
        # An opener of its own: the shared one keeps the proxies that the environment had when it was first used.
        with urllib.request.build_opener().open(request, timeout=timeout) as answer:
            return Reply(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.read())
    except OSError as error:
        return Reply(0, str(getattr(error, "reason", error)).encode())


def expected(models: Path) -> tuple[str, list[tuple[bytes, str, float]]]:
    """The local model's sha256, and of ten test pictures the file, the class and its probability.

    Raises:
        CloudError: there are no model and samples.
    """
    from app.classifier import Classifier, ModelError
    from app.pictures import decode, to_model_input

    try:
        classifier = Classifier.from_directory(models)
    except ModelError as error:
        raise CloudError(f"{error}: type `uv run dvc repro`, or `uv run dvc pull`") from None
    files = sorted((models / "samples/test").glob("*.png"))[:PICTURES]
    if not files:
        raise CloudError(f"{models}/samples/test/ holds no picture to try the service with: type `uv run dvc repro`")
    wanted = []
    for file in files:
        data = file.read_bytes()
        probabilities = classifier.predict(to_model_input(decode(data), classifier.image_size)[None]).probabilities[0]
        top = int(probabilities.argmax())
        wanted.append((data, classifier.class_names[top], float(probabilities[top])))
    return classifier.sha256, wanted


def check(url: str, models: Path, patience: float = 60, token: str = "") -> None:
    """Try a service.

    Args:
        url: of the service, without a path.
        models: folder of the model that it has to serve.
        patience: seconds to wait until it is ready.
        token: of somebody who may call it; a service that is open to all needs none.

    Raises:
        CloudError: what is wrong, in one line.
    """
    sha256, wanted = expected(models)
    end = time.monotonic() + patience
    while (ready := ask(f"{url}/readyz", token=token)).status != 200:
        if time.monotonic() > end:
            raise CloudError(f"{url}/readyz says {ready.status} after {patience:.0f} s: {ready.said}")
        time.sleep(min(1.0, patience / 10))
    said = _json(f"{url}/v1/model", ask(f"{url}/v1/model", token=token))
    if said.get("sha256") != sha256:
        raise CloudError(f"{url} serves the model {str(said.get('sha256'))[:12]}, and {models}/ holds {sha256[:12]}")
    for number, (data, name, probability) in enumerate(wanted):
        answer = _json(f"{url}/v1/predict", ask(f"{url}/v1/predict", data, token=token))["answers"][0]
        if answer.get("class") != name or abs(answer["probability"] - probability) > NEAR:
            got = f"{answer.get('class')} ({answer.get('probability')})"
            raise CloudError(f"{url} calls test picture {number} {got}; the local model: {name} ({probability:.3f})")
    if not 400 <= (refused := ask(f"{url}/v1/predict", BAD, token=token)).status < 500:
        raise CloudError(f"{url} answers a file that is no picture with {refused.status}, not with a 4xx")
    print(f"{url}: ready, model {sha256[:12]}, {len(wanted)} pictures as here, a bad one refused", flush=True)


def _json(url: str, reply: Reply) -> Any:
    if reply.status != 200:
        raise CloudError(f"{url} says {reply.status}: {reply.said}")
    try:
        return json.loads(reply.body)
    except ValueError:
        raise CloudError(f"{url} answers no JSON: {reply.said}") from None
