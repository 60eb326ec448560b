"""params.yaml, typed and checked.

Every stage takes its knobs as keyword arguments of the same names, so `of(train)` hands a stage exactly the
params it reads, and `dvc.yaml` lists the same names for it (a test compares the two).
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stages.stage import StageError


def _no_bool(value: Any) -> Any:
    # YAML's `true`, `yes` and `on` would pass as 1.
    if isinstance(value, bool):
        raise ValueError
    return value


Int = Annotated[int, BeforeValidator(_no_bool)]
# Lax on purpose: PyYAML reads a bare `1e-3` as a string.
Float = Annotated[float, BeforeValidator(_no_bool)]


class Params(BaseModel):
    """Every knob of the pipeline with its limits. Meanings and units stand in params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: Int = Field(ge=0, lt=2**32)
    dataset: Literal["fashion-mnist", "image-folder", "sketches"]
    data_dir: str = Field(min_length=1)
    extra_dir: str = Field(min_length=1)
    image_size: Int = Field(ge=16, le=128, multiple_of=4)
    val_fraction: Float = Field(gt=0, lt=1)
    test_fraction: Float = Field(gt=0, lt=1)
    sketches: Int = Field(ge=100, le=10_000_000)
    width: Int = Field(ge=8, le=1024, multiple_of=8)
    epochs: Int = Field(ge=1, le=10_000)
    batch_size: Int = Field(ge=2, le=65_536)
    lr: Float = Field(gt=0, le=10)
    weight_decay: Float = Field(ge=0, le=1)
    label_smoothing: Float = Field(ge=0, lt=1)
    augment: Literal["none", "flip", "shift", "erase"]
    precision: Literal["auto", "fp32", "bf16", "reproducible"]
    devices: Literal["auto"] | Annotated[int, Field(ge=1, le=64), BeforeValidator(_no_bool)]
    coverage: Float = Field(ge=0.5, lt=1)
    min_accuracy: Float = Field(ge=0, le=1)


_TYPES = {"integer": "a whole number", "number": "a number", "string": "a text"}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "not empty",
}


def allowed(key: str) -> str:
    """Say in words what `key` may be, from the same constraints that check it."""
    return " or ".join(_words(schema) for schema in _alternatives(Params.model_json_schema()["properties"][key]))


def _alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return schema.get("anyOf", [schema])


def _words(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    limits = [text.format(schema[name]) for name, text in _LIMITS.items() if name in schema]
    return ", ".join([_TYPES[schema["type"]], *limits])


def check(values: Any, where: str = "params.yaml") -> Params:
    """Check a mapping of param names to values.

    Raises:
        StageError: one line a wrong key, with the key, the value and what is allowed.
    """
    if not isinstance(values, dict):
        raise StageError(f"{where}: expected `key: value` lines, found {type(values).__name__}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(e) for e in error.errors())  # each alternative complains for itself
        raise StageError("\n".join(f"{where}: {line}" for line in lines)) from None


def _explain(error: Any) -> str:
    key = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{key} is missing; it is {allowed(key)}"
    if error["type"] == "extra_forbidden":
        return f"{key}: {error['input']!r} is no param; the params are {', '.join(Params.model_fields)}"
    return f"{key}: {error['input']!r} is not allowed; it is {allowed(key)}"


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        StageError: the file is missing, is no YAML, or has a wrong, missing or unknown key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} is missing: run from the folder that holds dvc.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    return check(values, path.name)


def names(stage: Callable[..., Any]) -> list[str]:
    """The params that a stage function takes, which are those it reads."""
    return [name for name in inspect.signature(stage).parameters if name in Params.model_fields]


def of(stage: Callable[..., Any]) -> dict[str, Any]:
    """The checked values from params.yaml for a stage function's keyword arguments."""
    params = load()
    return {name: getattr(params, name) for name in names(stage)}
