"""The shapes of bodies and answers, as OpenAPI shows them."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.problems import MEDIA_TYPE
from app.reading import MAX_PICTURES, RAW

FILE = {"type": "string", "format": "binary"}


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unsupported Media Type"])
    status: int = Field(examples=[415])
    detail: str = Field(examples=["This is not a picture in a format known here: PNG, JPEG, WebP, GIF or BMP."])


class Pictures(BaseModel):
    """Pictures in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)
    images: Annotated[list[str], Field(min_length=1, max_length=MAX_PICTURES, description="files, in base64")]


class Answer(BaseModel):
    """What the model says of one picture; or, of a bad one, why not."""

    name: str | None = Field(description="the file's name, where one came with it")
    class_: str | None = Field(None, alias="class", description="the most probable class")
    probability: float | None = Field(None, description="of that class, calibrated")
    probabilities: dict[str, float] | None = Field(None, description="of every class; they sum to 1")
    label_set: list[str] | None = Field(
        None, description="the classes that hold the right one as often as `label_set_coverage` of the model says"
    )
    in_distribution: float | None = Field(
        None, description="share of validation pictures as unusual as this one; below 0.01 do not trust the answer"
    )
    error: Problem | None = None


class Answers(BaseModel):
    """What the model says of the pictures of a request, in their order."""

    model: str = Field(description="SHA-256 of the model file that answered")
    version: str = Field(description="of the model in the registry, or of the project that exported it")
    answers: list[Answer]


class Taken(BaseModel):
    """Feedback that was taken."""

    class_: str = Field(alias="class", description="what the user says is right")
    said: str = Field(description="what the model says")


class Window(BaseModel):
    """One window of answered pictures."""

    time: str = Field(description="when it was full, RFC 3339")
    ratios: dict[str, float] = Field(description="of each feature's statistic to its threshold")
    alarms: list[str] = Field(description="the features beyond their thresholds")


class Drift(BaseModel):
    """How far what was answered lies from the validation split."""

    window: int = Field(description="pictures that are judged together")
    validation_pictures: int
    pictures: int = Field(description="answered since this instance began")
    pictures_waiting: int = Field(description="of the next window")
    alarm: bool = Field(description="of the last window")
    features: list[str]
    windows: list[Window] = Field(description="the last ones, oldest first")


class Model(BaseModel):
    """What the model file says of itself."""

    sha256: str
    version: str = Field(description="in the registry, or of the project that exported it")
    class_names: list[str]
    image_size: list[int] = Field(description="height and width of the picture that the model sees")
    label_set_coverage: float
    label_set_threshold: float
    dataset: str
    dataset_sha256: str
    project_version: str
    params: dict[str, Any]
    metrics: dict[str, Any]
    distances: list[float] = Field(description="of the validation pictures from their class, at even shares of them")


class Status(BaseModel):
    """A sign of life."""

    status: str


FROM_JSON = TypeAdapter(Pictures)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of these answers."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {s: {"description": HTTPStatus(s).phrase, "content": {MEDIA_TYPE: schema}} for s in statuses}


def form(field: str, *, many: bool = False) -> dict[str, Any]:
    """OpenAPI's description of a body that is a form with a picture, or with several, in a field."""
    files = {"type": "array", "items": FILE, "minItems": 1, "maxItems": MAX_PICTURES} if many else FILE
    # Any other name of the field is taken as well.
    schema = {"type": "object", "properties": {field: files}, "additionalProperties": FILE, "minProperties": 1}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def any_way(field: str, example: bytes, *, many: bool = False) -> dict[str, Any]:
    """OpenAPI's description of a body in any of the ways that `app.reading` knows.

    Args:
        field: the form's.
        example: a picture file that the JSON example shows.
        many: whether several pictures, and JSON, are taken.
    """
    body = form(field, many=many)
    content = body["requestBody"]["content"]
    content |= {kind: {"schema": FILE} for kind in RAW}
    if many:
        shown = {"images": [base64.b64encode(example).decode()]}
        content["application/json"] = {"schema": Pictures.model_json_schema(), "example": shown}
    return body
