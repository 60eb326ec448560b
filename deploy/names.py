"""The names of cloud things: invoke.yaml's `gcp` section, typed and checked, and what follows from it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from deploy.gcloud import CloudError

Image = Literal["train", "app"]
# Google's own rules for names.
ShortName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,47}[a-z0-9]$")]
Account = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")]
RULES = {
    "project": "a project's id: 6 to 30 small letters, digits and hyphens (or INVOKE_GCP_PROJECT=my-project)",
    "bucket": "empty, or 3 to 63 small letters, digits and hyphens",
    "feedback": "empty, or 3 to 63 small letters, digits and hyphens",
    "github": "empty, or owner/repository",
    "gpu": "empty, or an accelerator of Vertex AI such as NVIDIA_TESLA_T4",
    "memory": "a size such as 512Mi or 2Gi",
}


class Names(BaseModel):
    """Every name and size that invoke.yaml holds. Meanings stand there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")
    region: str = Field(pattern=r"^[a-z]+-[a-z]+[0-9]+$")
    bucket: str = Field(pattern=r"^([a-z0-9][a-z0-9-]{1,61}[a-z0-9])?$")
    repository: ShortName
    github: str = Field(pattern=r"^([A-Za-z0-9-]+/[A-Za-z0-9._-]+)?$")
    trainer: Account
    app: Account
    deployer: Account
    machine: str = Field(pattern=r"^[a-z0-9]+-[a-z0-9-]+$")
    gpu: str = Field(pattern=r"^([A-Z][A-Z0-9_]+)?$")
    gpus: int = Field(ge=1, le=16)
    nodes: int = Field(ge=1, le=100)
    service: ShortName
    public: bool
    cpu: int = Field(ge=1, le=8)
    memory: str = Field(pattern=r"^[0-9]+(Mi|Gi)$")
    concurrency: int = Field(ge=1, le=1000)
    min_instances: int = Field(ge=0, le=1000)
    max_instances: int = Field(ge=1, le=1000)
    traffic_log: bool
    feedback: str = Field(pattern=r"^([a-z0-9][a-z0-9-]{1,61}[a-z0-9])?$")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Names":
        """Check invoke.yaml's `gcp` section, as `context.config.gcp` gives it.

        Raises:
            CloudError: one line a wrong, missing or unknown name, with what is allowed.
        """
        try:
            names = cls.model_validate(dict(values))
        except ValidationError as error:
            raise CloudError("\n".join(f"invoke.yaml: gcp.{_explain(e)}" for e in error.errors())) from None
        if not names.bucket:
            names = names.model_copy(update={"bucket": f"{names.project}-atelier"})
        if names.feedback == names.bucket:
            raise CloudError(
                f"invoke.yaml: gcp.feedback is {names.bucket!r}, the bucket of data and models, where what faces the "
                "public shall not write; it has to be another one"
            )
        return names

    @property
    def registry(self) -> str:
        """Where images are: host/project/repository."""
        return f"{self.region}-docker.pkg.dev/{self.project}/{self.repository}"

    def image(self, which: Image, commit: str) -> str:
        """The full name of the image that was built from a commit."""
        return f"{self.registry}/{which}:{commit}"

    def account(self, short: str) -> str:
        """The address of a service account, from its short name."""
        return f"{short}@{self.project}.iam.gserviceaccount.com"


def _explain(error: Any) -> str:
    key = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"{key} is no name of ours; they are {', '.join(Names.model_fields)}"
    said = repr(error["input"]) if error["input"] != "" else "empty"
    return f"{key} is {said}; it has to be {RULES.get(key) or error['msg'].removeprefix('Input should be ').lower()}"
