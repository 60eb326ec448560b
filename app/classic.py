"""The routes of the course project that this one descends from, for programs that know them.

Same paths, fields and headers; pictures are read as everywhere else here. What is served carries a few samples of each
split and not the data set, so an id counts the test split's samples.
"""

from __future__ import annotations

import io
import random
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.classifier import Classifier
from app.endpoints import Endpoints
from app.exhibits import Sample, Samples
from app.judge import Judge
from app.pictures import PictureError
from app.reading import one
from app.schema import form, problems

LABEL = "X-Fashion-MNIST-Label"


class Prediction(BaseModel):
    """What the model says of a picture."""

    prediction: str = Field(examples=["Sandal"])
    prediction_index: int = Field(examples=[5])
    confidence: float = Field(examples=[0.97])


class SamplePrediction(Prediction):
    """What the model says of a sample, and what it is."""

    true_label: str = Field(examples=["Sandal"])
    true_label_index: int = Field(examples=[5])


def add(app: FastAPI, endpoints: Endpoints, samples: Samples) -> None:
    """Add the routes to an application.

    Args:
        app: gets the routes.
        endpoints: answer.
        samples: pictures by split.
    """
    judge, classifier = endpoints.judge, endpoints.judge.classifier

    @app.get(
        "/sample/image",
        tags=["as in the course project"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **problems(404, 422)},
    )
    async def sample_image(
        dataset: Literal["train", "test", "val"] = "test",
        size: Annotated[int, Query(ge=28, le=1024, description="pixels of a side")] = 280,
    ) -> Response:
        """A sample at random, as PNG; its class is in the headers."""
        if not samples.get(dataset):
            raise HTTPException(404, f"This model has no samples of the {dataset} split.")
        sample = random.choice(samples[dataset])  # noqa: S311 - no secret hangs on it
        png = io.BytesIO()
        with Image.open(sample.file) as image:
            image.resize((size, size), Image.Resampling.NEAREST).save(png, "PNG")
        # A header is Latin-1, a class may be any folder's name.
        headers = {LABEL: quote(sample.label, safe=" /'()&+,:;=@!"), f"{LABEL}-Index": str(_index(classifier, sample))}
        return Response(png.getvalue(), media_type="image/png", headers=headers)

    @app.get(
        "/predict/sample/{id}",
        tags=["as in the course project"],
        response_model=SamplePrediction,
        responses=problems(404, 422),
    )
    async def predict_sample(id: int) -> dict[str, object]:
        """What the model says of a sample of the test split, and what it is."""
        pictures = samples.get("test", [])
        if not 0 <= id < len(pictures):
            some = f"There are samples 0 to {len(pictures) - 1}" if pictures else "This model has no samples"
            raise HTTPException(404, f"{some}, not {id}.")
        sample = pictures[id]
        said = await endpoints.in_turn(lambda: _say(judge, sample.file.read_bytes()))
        return said | {"true_label": sample.label, "true_label_index": _index(classifier, sample)}

    @app.post(
        "/predict/upload",
        tags=["as in the course project"],
        response_model=Prediction,
        responses=problems(400, 408, 413, 415, 422),
        openapi_extra=form("file"),
    )
    async def predict_upload(request: Request) -> dict[str, object]:
        """What the model says of a picture."""
        data = await one(request)
        try:
            return await endpoints.in_turn(lambda: _say(judge, data))
        except PictureError as error:
            # Where newer routes say 415, this one always said 400.
            raise PictureError(error.message, 400 if error.status == 415 else error.status) from None


def _say(judge: Judge, data: bytes) -> dict[str, object]:
    seen = judge.see(data)
    row = judge.predict(seen[None]).probabilities[0]
    top = int(row.argmax())
    return {
        "prediction": judge.classifier.class_names[top],
        "prediction_index": top,
        "confidence": float(row[top]),
    }


def _index(classifier: Classifier, sample: Sample) -> int:
    return classifier.class_names.index(sample.label) if sample.label in classifier.class_names else -1
