"""Images are built from a commit and named after it, by Cloud Build or on this machine."""

import shutil
from pathlib import Path

from deploy.gcloud import CloudError, NotFoundError, Shell
from deploy.names import Image, Names

CONFIG = Path(__file__).with_name("cloudbuild.yaml")


def tags(names: Names, which: Image) -> list[str]:
    """Ask for the tags of an image. `docker images describe` would want the API that scans images, too."""
    return [
        "gcloud",
        "artifacts",
        "tags",
        "list",
        f"--package={which}",
        f"--repository={names.repository}",
        f"--project={names.project}",
        f"--location={names.region}",
        "--format=json",
    ]


def cloud_build(names: Names, which: Image, commit: str, model: str) -> list[str]:
    """Build an image with Cloud Build, as the deployer; its log is streamed.

    Args:
        model: sha256 of the served model; empty for the train image, which holds none.
    """
    filled = {"_WHICH": which, "_IMAGE": names.image(which, commit), "_COMMIT": commit, "_MODEL_SHA256": model}
    account = f"projects/{names.project}/serviceAccounts/{names.account(names.deployer)}"
    return [
        "gcloud",
        "builds",
        "submit",
        ".",
        f"--config=deploy/{CONFIG.name}",
        "--substitutions=" + ",".join(f"{key}={value}" for key, value in filled.items()),
        "--ignore-file=.dockerignore",  # .gitignore, which is gcloud's own choice, would leave models/ out
        f"--gcs-source-staging-dir=gs://{names.bucket}/builds",
        f"--service-account={account}",
        f"--project={names.project}",
        f"--region={names.region}",
    ]


def local_build(names: Names, which: Image, commit: str, model: str, engine: str) -> list[list[str]]:
    """Build an image on this machine and push it, with docker or buildah."""
    image = names.image(which, commit)
    build = {"docker": ["docker", "build"], "buildah": ["buildah", "bud", "--format=docker"]}[engine]
    arguments = ["--build-arg", f"COMMIT={commit}", "--build-arg", f"MODEL_SHA256={model}"]
    file = f"--file=dockerfiles/{which}.dockerfile"
    return [[*build, file, f"--tag={image}", *arguments, "."], [engine, "push", image]]


def build(shell: Shell, names: Names, which: Image, *, commit: str, model: str, local: bool = False) -> None:
    """Build an image and put it into the registry.

    Raises:
        CloudError: why not.
    """
    if not local:
        shell.run(cloud_build(names, which, commit, model))
        return
    engine = next((name for name in ("docker", "buildah") if shutil.which(name)), "")
    if not engine and not shell.dry_run:
        raise CloudError("neither docker nor buildah is on the PATH: install one, or leave --local out")
    for argv in local_build(names, which, commit, model, engine or "docker"):
        shell.run(argv)


def is_there(shell: Shell, names: Names, which: Image, commit: str) -> bool:
    """Whether the image of a commit is in the registry."""
    try:
        return any(tag["name"].endswith(f"/{commit}") for tag in shell.ask(tags(names, which)) or [])
    except NotFoundError:  # nothing was ever built
        return False
