"""What happens after the deploy, as tasks: the traffic log's report, and what users said."""

import re
from datetime import UTC, datetime
from pathlib import Path

import yaml
from invoke.context import Context
from invoke.tasks import task
from rich.console import Console
from rich.table import Table

from deploy.gcloud import CloudError, Shell, shown
from deploy.tasks import DRY, MODELS, cloud, told


@task(
    help={
        "since": "how far back: 30m, 12h, 7d, 2w",
        "log": "the folder that TRAFFIC_DIR named, or gs://... of it",
        "in_cloud": "from Cloud Logging instead, where the service runs with TRAFFIC_LOG=on",
        "models": "folder of the model that answered",
        "out": "the report's file",
        "dry_run": f"with --in-cloud: {DRY}",
    }
)
def drift(
    context: Context,
    since: str = "7d",
    log: str = "traffic",
    in_cloud: bool = False,
    models: str = MODELS.as_posix(),
    out: str = "report/drift.html",
    dry_run: bool = False,
) -> None:
    """Say from the traffic log whether the pictures are still of the kind that the model was checked on."""
    # Imported here: pandas and onnxruntime take a second that no other task should wait.
    from app.classifier import Classifier, ModelError
    from app.drift import Reference, ReferenceError
    from deploy import drift_page, traffic

    with told():
        span = traffic.since(since)
        if in_cloud and dry_run:
            with cloud(context) as names:
                print(shown(traffic.read_log(names, span)))
            return
        try:
            classifier = Classifier.from_directory(models)
            reference = Reference.read(Path(models) / "reference.json")
        except (ModelError, ReferenceError) as error:
            raise CloudError(f"--models {models}: {error}") from None
        if in_cloud:
            with cloud(context) as names:
                frame = traffic.from_cloud(Shell(), names, span)
        else:
            frame = traffic.from_folder(log, datetime.now(UTC) - span)
        judged = traffic.judge(frame, reference, classifier)
        page = Path(out)
        page.parent.mkdir(parents=True, exist_ok=True)
        version = str(frame["version"].iloc[-1])
        page.write_text(drift_page.render(judged, f"model {version} ({classifier.sha256[:8]})"), "utf-8", newline="\n")
        print(f"{traffic.verdict(judged)}\nreport: {page.as_posix()}")


@task(
    help={
        "review": "open a page on which each picture is accepted, set right or rejected",
        "folder": "what FEEDBACK_DIR named, or a copy of it",
        "bring": "gs://... of FEEDBACK_DIR: copy what is new from there into the folder first",
        "models": "folder of the model, which knows the classes",
        "port": "of the page",
        "dry_run": f"with --bring: {DRY}",
    }
)
def feedback(
    _: Context,
    review: bool = False,
    folder: str = "feedback",
    bring: str = "",
    models: str = MODELS.as_posix(),
    port: int = 7861,
    dry_run: bool = False,
) -> None:
    """Count what users said the right classes are, and with --review look it through."""
    from app.classifier import Classifier, ModelError
    from deploy import review as reviewing

    with told():
        if bring:
            fetch(bring, Path(folder), dry_run)
            if dry_run:
                return
        try:
            classes = Classifier.from_directory(models).class_names
        except ModelError as error:
            raise CloudError(f"--models {models}: {error}") from None
        # Where training looks for more pictures: what is accepted is taken in by the next `dvc repro`.
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        room = reviewing.Review(Path(folder), Path(params["extra_dir"]), tuple(classes))
        if review:
            reviewing.serve(room, port)
        table = Table("class", "waiting", "accepted", "rejected")
        for name, counts in room.counts().items():
            table.add_row(name, *map(str, counts))
        Console().print(table)


def fetch(source: str, folder: Path, dry_run: bool) -> None:
    """Copy what waits in a bucket, and is not here yet, to this machine.

    Raises:
        CloudError: it is no bucket's address, or cannot be copied.
    """
    if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+(/[\w./-]+)?", source):
        raise CloudError(f"--bring {source}: the address of a folder in a bucket, such as gs://my-bucket/feedback")
    (folder / "pending").mkdir(parents=True, exist_ok=True)
    Shell(dry_run).run(
        ["gcloud", "storage", "rsync", "--recursive", f"{source.rstrip('/')}/pending", f"{folder.as_posix()}/pending"]
    )
