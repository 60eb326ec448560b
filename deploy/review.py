"""What users said, looked through: a page of this machine on which each picture is accepted, set right, or rejected.

FOLDER/pending/<class>/<hash>.png     as the app kept it; the page shows these
EXTRA_DIR/<class>/<hash>.png          accepted: training takes them from there, by the param `extra_dir`
FOLDER/rejected/<class>/<hash>.png    rejected, and not asked about again
"""

import base64
import contextlib
import html
import json
import secrets
import socket
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from app.feedback import PENDING, folder_name
from deploy.gcloud import CloudError

HOST = "127.0.0.1"
REJECTED = "rejected"
SHOWN = 50  # pictures on a page
STYLE = """
:root { color-scheme: light dark; --text: #1c1917; --soft: #57534e; --rule: #d6d3d1; --ground: #fafaf9; }
@media (prefers-color-scheme: dark) {
  :root { --text: #f5f5f4; --soft: #a8a29e; --rule: #44403c; --ground: #1c1917; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem 6rem;
  color: var(--text); background: var(--ground); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 16px; }
fieldset { border: 1px solid var(--rule); border-radius: 10px; padding: 12px; margin: 0; min-width: 0; }
legend { font-weight: 600; padding: 0 6px; }
img { width: 100%; aspect-ratio: 1; image-rendering: pixelated; border-radius: 6px; background: #000; }
p { margin: 6px 0; } .soft { color: var(--soft); font-size: .9rem; }
label { display: block; padding: 2px 0; } select { max-width: 100%; font: inherit; }
footer { position: fixed; inset: auto 0 0 0; padding: 12px; text-align: center; background: var(--ground);
  border-top: 1px solid var(--rule); }
button { font: inherit; font-weight: 600; padding: 10px 28px; border: 0; border-radius: 8px; color: #fff;
  background: #c2410c; cursor: pointer; }
"""


@dataclass(frozen=True)
class Waiting:
    """A picture that waits for a decision.

    Attributes:
        file: where it lies.
        folder: the name of its class folder, which is what its user said is right.
        said: what the model said, with how sure it was; empty where that is not known.
    """

    file: Path
    folder: str
    said: str

    @property
    def key(self) -> str:
        """Names it on the page."""
        return f"{self.folder}/{self.file.stem}"


@dataclass(frozen=True)
class Review:
    """The folders of one review.

    Attributes:
        folder: FEEDBACK_DIR of the app, or a copy of it.
        accepted: class folders that training takes.
        classes: names of the model's classes.
    """

    folder: Path
    accepted: Path
    classes: tuple[str, ...]

    def waiting(self) -> Iterator[Waiting]:
        """What nobody has decided about yet, in the order of its names."""
        for file in sorted((self.folder / PENDING).glob("*/*.png")):
            name = file.parent.name
            # A copy of a bucket brings back what was decided before.
            if any(place.exists() for place in self._decided(file)):
                file.unlink()
                file.with_suffix(".json").unlink(missing_ok=True)
                continue
            yield Waiting(file, name, _said(file.with_suffix(".json")))

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Class -> pictures that wait, that were accepted, that were rejected."""
        roots = (self.folder / PENDING, self.accepted, self.folder / REJECTED)
        return {name: self._count(folder_name(name), roots) for name in self.classes}

    @staticmethod
    def _count(name: str, roots: tuple[Path, Path, Path]) -> tuple[int, int, int]:
        first, second, third = (sum(1 for _ in (root / name).glob("*.png")) for root in roots)
        return first, second, third

    def accept(self, picture: Waiting, name: str) -> None:
        """Make it a training picture of a class, which need not be the one that its user said."""
        if name not in self.classes:
            raise ValueError(name)
        self._move(picture, self.accepted / folder_name(name))

    def reject(self, picture: Waiting) -> None:
        """Put it where nothing reads it."""
        self._move(picture, self.folder / REJECTED / picture.folder)

    def _decided(self, file: Path) -> Iterator[Path]:
        # Accepted it may have been under another class.
        yield from (self.accepted / folder_name(name) / file.name for name in self.classes)
        yield self.folder / REJECTED / file.parent.name / file.name

    @staticmethod
    def _move(picture: Waiting, to: Path) -> None:
        to.mkdir(parents=True, exist_ok=True)
        # Copied and then removed: the two may lie on different disks.
        scratch = to / f".{picture.file.name}.part"
        scratch.write_bytes(picture.file.read_bytes())
        scratch.replace(to / picture.file.name)
        picture.file.unlink()
        picture.file.with_suffix(".json").unlink(missing_ok=True)


def _said(record: Path) -> str:
    try:
        content: dict[str, Any] = json.loads(record.read_bytes())
        return f"{content['said']}, {float(content['probability']):.0%} sure"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def serve(review: Review, port: int) -> None:
    """Show the page in this machine's browser, until Ctrl-C.

    Raises:
        CloudError: the port is in use.
    """
    try:
        listener = socket.create_server((HOST, port))
    except OSError:
        raise CloudError(f"port {port} is in use: stop what listens there, or choose another with --port") from None
    with listener:
        port = listener.getsockname()[1]
        print(f"http://{HOST}:{port} (Ctrl-C when you are done)", flush=True)
        # Whoever connects before the server is up waits in the listener's queue.
        threading.Thread(target=webbrowser.open, args=(f"http://{HOST}:{port}",), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(create(review, port), log_level="warning")).run([listener])


def create(review: Review, port: int) -> Starlette:
    """The page as an application, for the browser of this machine and nobody else."""
    token = secrets.token_urlsafe()  # a stranger's page could send a form to this address, and does not know it
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}  # and not a name that somebody has lead here

    async def show(request: Request) -> Response:
        if request.headers.get("host") not in hosts:
            return PlainTextResponse("This page is for 127.0.0.1.", 403)
        return HTMLResponse(_page(review, token), headers={"cache-control": "no-store"})

    async def decide(request: Request) -> Response:
        form = dict(await request.form())
        if request.headers.get("host") not in hosts or form.pop("token", None) != token:
            return PlainTextResponse("This form is not from this page: load it anew.", 403)
        for picture in list(review.waiting()):
            decision = form.get(picture.key)
            if decision == "reject":
                review.reject(picture)
            elif decision == "accept":
                name = str(form.get(f"{picture.key}:class", ""))
                if name not in review.classes:
                    return PlainTextResponse("There is no such class: load the page anew.", 422)
                review.accept(picture, name)
        return RedirectResponse("/", 303)

    return Starlette(routes=[Route("/", show), Route("/", decide, methods=["POST"])])


def _page(review: Review, token: str) -> str:
    pictures = list(review.waiting())
    cards = "".join(_card(picture, review.classes) for picture in pictures[:SHOWN])
    more = f" The first {SHOWN} are shown." if len(pictures) > SHOWN else ""
    body = (
        f"<p>Waiting: {len(pictures):,}.{more} What is accepted goes to "
        f"<code>{html.escape(review.accepted.as_posix())}</code>, from where the next training takes it.</p>"
        f'<form method="post"><input type="hidden" name="token" value="{token}"><div class="grid">{cards}</div>'
        '<footer><button type="submit">Do as marked</button></footer></form>'
        if pictures
        else "<p>Nothing waits.</p>"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Feedback</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>What users set right</h1>{body}</body></html>"
    )


def _card(picture: Waiting, classes: tuple[str, ...]) -> str:
    key = html.escape(picture.key)
    data = base64.b64encode(picture.file.read_bytes()).decode()
    told = html.escape(picture.folder)
    options = "".join(
        f"<option{' selected' if folder_name(name) == picture.folder else ''}>{html.escape(name)}</option>"
        for name in classes
    )
    said = f'<p class="soft">The model said {html.escape(picture.said)}.</p>' if picture.said else ""
    select = f'<select name="{key}:class" aria-label="Class to accept {key} as">{options}</select>'
    choices = "".join(
        f'<label><input type="radio" name="{key}" value="{value}"{checked}> {word}</label>{after}'
        for value, word, checked, after in (
            ("accept", "Accept as", "", select),
            ("reject", "Reject", "", ""),
            ("later", "Later", " checked", ""),
        )
    )
    return (
        f'<fieldset><legend>{told}</legend><img alt="What a user calls {told}" src="data:image/png;base64,{data}">'
        f"{said}{choices}</fieldset>"
    )
