"""The load test as a task."""

import contextlib
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from rich.console import Console
from rich.table import Table

from deploy import load as loading
from deploy.gcloud import CloudError
from deploy.tasks import MODELS, told


@task(
    help={
        "url": "what to load; without it, the app of --models on this machine",
        "users": "at a time, {} to {}".format(*loading.USERS),
        "minutes": "how long, {:g} to {:g}".format(*loading.MINUTES),
        "models": "folder of the model, whose sample pictures are sent",
        "out": "the report's file",
    }
)
def load(
    _: Context,
    url: str = "",
    users: int = 10,
    minutes: float = 1.0,
    models: str = MODELS.as_posix(),
    out: str = "report/load.html",
) -> None:
    """Send pictures as users do, for some minutes, and report how the answers fared."""
    url = url.rstrip("/")
    with told(), contextlib.ExitStack() as stack:
        loading.check(url, users, minutes)
        if url and not loading.ready(url):
            raise CloudError(f"{url}/readyz does not answer: is it an Atelier, and does it run?")
        where = url or stack.enter_context(loading.local(Path(models)))
        print(f"{users} users send pictures to {where} for {minutes:g} minutes (Ctrl-C stops them)", flush=True)
        try:
            found = loading.run(where, Path(models) / "samples/test", users, minutes, Path(out))
        except KeyboardInterrupt:
            raise Exit("stopped before its time", code=130) from None
    table = Table(where, "")
    table.add_row("requests, a second", f"{found.requests:,}, {found.rate:.1f}")
    table.add_row("failed", f"{found.failures:,}")
    for name, value in found.percentiles.items():
        table.add_row(name, f"{value:,.0f} ms")
    table.add_row("report", found.report.as_posix())
    Console().print(table)
    if found.failures or not found.requests:
        raise Exit(f"{found.failures:,} of {found.requests:,} requests failed; the report says how", code=1)
