"""A bucket on loopback, for DVC, gcsfs and gcloud: gcp-storage-emulator, cured, with faults to switch on.

The emulator reads multipart bodies as mail: a file whose last byte is CR loses it, and gcloud's single-quoted boundary
ends it with an error. Here such a body is cut exactly where its boundary stands.
"""

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any

import gcp_storage_emulator.server as emulator
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

# Read when gcsfs is imported: without it the emulator is asked over gRPC, which it does not speak.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
BOUNDARY = re.compile(r"""boundary=(?P<quote>["']?)(?P<boundary>[^"';]+)(?P=quote)""")
_mail = emulator._read_data


def parts(content_type: str, body: bytes) -> list[tuple[bytes, bytes]]:
    """Head and content of each part of a multipart body; its lines end as its first one does."""
    found = BOUNDARY.search(content_type)
    assert found, content_type
    mark = b"--" + found["boundary"].encode()
    end = b"\r\n" if body.startswith(mark + b"\r\n") else b"\n"
    pieces = (end + body).split(end + mark)
    return [(head, content) for head, _, content in (piece[len(end) :].partition(end * 2) for piece in pieces[1:-1])]


def _read_data(handler: Any, query: Any) -> Any:
    kind = handler.headers.get("Content-Type") or ""
    if not kind.startswith("multipart/related"):
        return _mail(handler, query)
    (_, meta), (head, content) = parts(kind, emulator._decode_raw_data(emulator._read_raw_data(handler), handler))
    named = re.search(rb"(?i)content-type:\s*([^\s;]+)", head)
    return {"meta": json.loads(meta), "content": content, "content-type": named[1].decode() if named else "text/plain"}


emulator._read_data = _read_data


class _Handler(emulator.RequestHandler):  # type: ignore[misc]
    """One request at a time, since the emulator's memory knows no threads; lost ones get no answer."""

    def __init__(self, bucket: "Bucket", *arguments: Any) -> None:
        self.bucket = bucket
        super().__init__(bucket.storage, *arguments)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("do_"):
            return super().__getattribute__(name)
        answer = super().__getattribute__(name)

        def locked() -> None:
            with self.bucket.lock:
                if self.bucket.is_lost():
                    self.close_connection = True
                else:
                    answer()

        return locked

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@dataclass
class Bucket:
    """What is in the bucket, and what happens to those who ask.

    Attributes:
        written: names of objects, in the order in which they were.
        refused: how many requests got no answer.
    """

    name: str
    address: str = ""
    storage: Any = field(default_factory=lambda: Storage(use_memory_fs=True))
    lock: threading.RLock = field(default_factory=threading.RLock)
    written: list[str] = field(default_factory=list)
    refused: int = 0
    _losing: int = 0
    _back: float = 0.0
    _until: tuple[str, int] = ("", 0)

    def __post_init__(self) -> None:
        buckets.create_bucket(self.name, self.storage)
        keep = self.storage.create_file

        def create_file(bucket: str, name: str, *rest: Any, **more: Any) -> None:
            keep(bucket, name, *rest, **more)
            self.written.append(name)
            prefix, left = self._until
            if prefix and name.startswith(prefix):
                self._until = (prefix, left - 1) if left > 1 else ("", 0)
                if left == 1:
                    self.lose(seconds=3600)

        self.storage.create_file = create_file

    @property
    def environment(self) -> dict[str, str]:
        """In which gcsfs, and so DVC, finds it, asks nobody who it is, and no gRPC."""
        return {
            "STORAGE_EMULATOR_HOST": self.address,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_GCE_CHECK": "true",
        }

    def names(self, prefix: str = "") -> list[str]:
        """Names of the objects that begin so."""
        with self.lock:
            return [found["name"] for found in self.storage.get_file_list(self.name, prefix)[0]]

    def read(self, name: str) -> bytes:
        """An object's content."""
        with self.lock:
            return bytes(self.storage.get_file(self.name, name))

    def write(self, name: str, content: bytes) -> None:
        """Put something in an object's place, whole and well described."""
        with self.lock:
            size = str(len(content))
            made = objects._make_object_resource(self.address, self.name, name, "application/octet-stream", size)
            self.storage.create_file(self.name, name, content, objects._checksums(content, made))

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self.lock:
            self.storage.delete_file(self.name, name)

    def lose(self, requests: int = 0, seconds: float = 0.0) -> None:
        """Be unreachable for that many requests, or for so long."""
        with self.lock:
            self._losing, self._back = requests, time.monotonic() + seconds

    def lose_after(self, writes: int, prefix: str) -> None:
        """Take so many more objects that begin so, and from then on be unreachable."""
        with self.lock:
            self._until = (prefix, writes)

    @property
    def is_away(self) -> bool:
        """Whether it is unreachable for some time."""
        return time.monotonic() < self._back

    def is_lost(self) -> bool:
        """Whether this request gets no answer."""
        lost = self._losing > 0 or self.is_away
        self._losing -= self._losing > 0
        self.refused += lost
        return lost


@contextlib.contextmanager
def serve(name: str = "demo-project-atelier") -> Iterator[Bucket]:
    """Serve a bucket until the block ends."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    bucket = Bucket(name)

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, request: Any, address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, address)  # that is, unless the client was satisfied early, or killed

    with Server(("127.0.0.1", 0), partial(_Handler, bucket)) as server:
        bucket.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield bucket
        finally:
            server.shutdown()
            thread.join()
