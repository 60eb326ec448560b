"""Where pictures come from: Fashion-MNIST, a folder of the user's own, or drawn sketches.

A source names its classes, labels every picture, and reads any of them by index as uint8 [n, S, S], light on
black. Nothing is held in memory but Fashion-MNIST's 55 MB, so a folder may be as large as the disk.
"""

import gzip
import http.client
import os
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from app.pictures import PictureError, decode, to_model_input
from stages import sketches
from stages.stage import StageError, log

MIRROR_VARIABLE = "FASHION_MNIST_MIRROR"
DOWNLOADS = Path(".atelier/fashion-mnist")
TIMEOUT = 30  # seconds without a byte, after which a mirror counts as dead
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
SPLITS = {"train", "val", "valid", "validation", "test"}  # names of folders that hold class folders

PAYS = 1000  # pictures for each worker, fewer than which are read before it has started

Pixels = NDArray[np.uint8]
# Indices -> pictures uint8 [n, S, S], and a line for each picture that could not be read (black in the array).
Reader = Callable[[NDArray[np.int64]], tuple[Pixels, list[str]]]
# The same a chunk at a time.
Stream = Callable[[NDArray[np.int64]], Iterator[tuple[Pixels, list[str]]]]


@dataclass(frozen=True)
class Source:
    """N labelled pictures.

    Attributes:
        classes: K names, in the order of the label numbers.
        labels: int64 [N], each in 0..K-1.
        test: bool [N], which pictures belong to the source's own test split; None if it has no split.
        read: reads pictures by index; a picklable value where `slow`.
        slow: reading costs enough for worker processes to pay.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_] | None
    read: Reader
    slow: bool


@contextmanager
def streaming(source: Source, chunk: int = 256) -> Iterator[Stream]:
    """A function that reads pictures in the order of indices, a chunk at a time, on all cores where that pays.

    It may be called again and again: the workers stay, and their start costs as much as thousands of small pictures.
    """

    def chunks(indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [indices[start : start + chunk] for start in range(0, len(indices), chunk)]

    cores = min(os.cpu_count() or 1, len(source.labels) // PAYS + 1)
    if not source.slow or cores == 1:
        yield lambda indices: map(source.read, chunks(indices))
        return
    # Spawned, not forked: the same on every system, and safe beside threads.
    with ProcessPoolExecutor(cores, get_context("spawn"), _adopt, (source.read,)) as pool:
        yield lambda indices: pool.map(_work, chunks(indices))


_reader: Reader  # a worker's copy, sent once instead of with every chunk


def _adopt(reader: Reader) -> None:
    global _reader
    _reader = reader


def _work(indices: NDArray[np.int64]) -> tuple[Pixels, list[str]]:
    return _reader(indices)


# --- Fashion-MNIST -----------------------------------------------------------------------------------------


def fashion_mnist(size: int, downloads: Path = DOWNLOADS) -> Source:
    """Zalando's Fashion-MNIST, 60,000 + 10,000 pictures, from a mirror or from torchvision's address.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747; MIT licence.

    Raises:
        StageError: a file could not be had, or has the wrong checksum everywhere.
    """
    # Imported here: it brings torch, which takes seconds the other sources need not spend.
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import check_integrity

    mirror = os.environ.get(MIRROR_VARIABLE, "")
    mirrors = ([mirror.rstrip("/") + "/"] if mirror else []) + list(FashionMNIST.mirrors)
    files = []
    for name, md5 in FashionMNIST.resources:
        file = downloads / name
        if not check_integrity(file, md5):
            _download(file, md5, mirrors)
        files.append(file)
    train, train_labels, test, test_labels = map(_read_idx, files)
    pictures = np.concatenate([train, test])
    return Source(
        classes=tuple(FashionMNIST.classes),
        labels=np.concatenate([train_labels, test_labels]).astype(np.int64),
        test=np.arange(len(pictures)) >= len(train),
        read=lambda indices: (_resized(pictures[indices], size), []),
        slow=False,
    )


def _download(file: Path, md5: str, mirrors: list[str]) -> None:
    from torchvision.datasets.utils import check_integrity

    file.parent.mkdir(parents=True, exist_ok=True)
    problems = []
    for mirror in mirrors:
        # Kept only once its checksum is right: a wrong or half file dies with the scratch folder.
        with TemporaryDirectory(dir=file.parent) as scratch:
            part = Path(scratch) / file.name
            try:
                _fetch(mirror + file.name, part)
            except (OSError, ValueError, http.client.HTTPException) as error:
                problems.append(f"{mirror}: {error}")
                continue
            if check_integrity(part, md5):
                part.replace(file)
                return
            problems.append(f"{mirror}: wrong checksum")
    raise StageError(
        f"{file.name} could not be had ({'; '.join(problems)}): set {MIRROR_VARIABLE} to an http(s):// or file:// "
        "folder that holds the four files, or go without network with dataset=sketches"
    )


def _fetch(url: str, target: Path) -> None:
    # Not torchvision's own: it sets no time limit, and stumbles over file:// addresses.
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as answer,  # noqa: S310 - the user's own mirror may be a file
        target.open("wb") as out,
        tqdm(desc=target.name, total=int(answer.headers["Content-Length"] or 0) or None, unit="B", unit_scale=True,
             disable=None) as bar,
    ):  # fmt: skip
        while chunk := answer.read(1 << 16):
            out.write(chunk)
            bar.update(len(chunk))


def _read_idx(file: Path) -> Pixels:
    """Read an IDX file of bytes; its header tells the shape (yann.lecun.com/exdb/mnist)."""
    data = gzip.decompress(file.read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _resized(pictures: Pixels, size: int) -> Pixels:
    if pictures.shape[1:] == (size, size):
        return pictures
    resized = [Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR) for p in pictures]
    return np.stack([np.asarray(p) for p in resized])


# --- The user's own pictures -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """Reads picture files just as the app reads an upload, so training and serving see the same."""

    paths: tuple[str, ...]
    size: int

    def __call__(self, indices: NDArray[np.int64]) -> tuple[Pixels, list[str]]:
        pictures = np.zeros((len(indices), self.size, self.size), np.uint8)
        problems = []
        for row, index in enumerate(indices):
            path = Path(self.paths[index])
            try:
                pictures[row] = to_model_input(decode(path.read_bytes()), (self.size, self.size))
            except (PictureError, OSError) as error:
                problems.append(f"{path.as_posix()} ({error})")
        return pictures, problems


def image_folder(folder: Path, size: int) -> Source:
    """The user's own pictures: `folder/<class>/*.png`, or the same under `folder/train` and `folder/test`.

    Raises:
        StageError: no such folder, no classes, an empty class, train without test, or different classes in the two.
    """
    if not folder.is_dir():
        raise StageError(f"data_dir: {folder.as_posix()} is no folder; make one folder a class in it, with pictures")
    split = (folder / "train").is_dir() and (folder / "test").is_dir()
    roots = [folder / "train", folder / "test"] if split else [folder]
    classes = _class_folders(roots[0])
    if split and _class_folders(roots[1]) != classes:
        odd = sorted(set(classes) ^ set(_class_folders(roots[1])))
        raise StageError(
            f"{folder.as_posix()}: train/ and test/ must hold the same classes; not in both: {', '.join(odd)}"
        )
    if classes and not split and SPLITS.issuperset(name.lower() for name in classes):
        raise StageError(
            f"{folder.as_posix()} holds {', '.join(classes)}, which are no classes: choose the test pictures with "
            "train/ and test/ both (in lower case), or put all pictures into one folder a class; those for validation "
            "are dealt out of train"
        )
    if len(classes) < 2:
        raise StageError(
            f"{folder.as_posix()} holds {len(classes)} class folders; a classifier needs at least two, "
            f"each with pictures: {folder.as_posix()}/<class name>/*.png|jpg|webp"
        )
    paths: list[str] = []
    labels: list[int] = []
    test: list[bool] = []
    for part, root in enumerate(roots):
        for label, name in enumerate(classes):
            found = _picture_files(root / name)
            paths += found
            labels += [label] * len(found)
            test += [part == 1] * len(found)
    return Source(
        classes=classes,
        labels=np.array(labels, np.int64),
        test=np.array(test, np.bool_) if split else None,
        read=_Files(tuple(paths), size),
        slow=True,
    )


def extra_folder(folder: Path, classes: tuple[str, ...], size: int) -> Source:
    """More pictures of a source's classes: `folder/<class>/*.png`; there may be none.

    Raises:
        StageError: no such folder, or one in it that is no class of the source.
    """
    if not folder.is_dir():
        raise StageError(f"extra_dir: {folder.as_posix()} is no folder; an empty one adds nothing")
    named = {_folder_name(name): label for label, name in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    for name in _class_folders(folder):
        if _folder_name(name) not in named:
            raise StageError(
                f"extra_dir: {(folder / name).as_posix()} is no class of the data: rename it, or move it away; "
                f"the classes are {', '.join(classes)}"
            )
        found = _picture_files(folder / name, empty=True)
        paths += found
        labels += [named[_folder_name(name)]] * len(found)
    return Source(classes, np.array(labels, np.int64), None, _Files(tuple(paths), size), slow=True)


def _folder_name(name: str) -> str:
    # No system lets a folder's name hold a slash, which "T-shirt/top" does.
    return name.replace("/", "-")


@dataclass(frozen=True)
class _Joined:
    """Reads the first `count` pictures from one source and those after them from another."""

    first: Reader
    count: int
    second: Reader

    def __call__(self, indices: NDArray[np.int64]) -> tuple[Pixels, list[str]]:
        early = indices < self.count
        if early.all():
            return self.first(indices)
        pictures, problems = self.second(np.maximum(indices - self.count, 0)[~early])
        if not early.any():
            return pictures, problems
        others, more = self.first(indices[early])
        both = np.empty((len(indices), *pictures.shape[1:]), np.uint8)
        both[early], both[~early] = others, pictures
        return both, more + problems


def joined(first: Source, second: Source) -> Source:
    """The pictures of both, numbered on; the classes, and what can be pickled, are the first's."""
    return Source(
        first.classes,
        np.concatenate([first.labels, second.labels]),
        None,
        _Joined(first.read, len(first.labels), second.read),
        first.slow,
    )


def _class_folders(root: Path) -> tuple[str, ...]:
    # Sorted by code point, so that the label numbers are the same on every system.
    return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _picture_files(folder: Path, *, empty: bool = False) -> list[str]:
    with os.scandir(folder) as entries:  # which knows what is a file without asking for each
        files = sorted((e for e in entries if e.is_file() and not e.name.startswith(".")), key=lambda e: e.name)
    pictures = [file.path for file in files if file.name.lower().endswith(SUFFIXES)]
    if not pictures and not empty:
        raise StageError(f"{folder.as_posix()} holds no picture ({', '.join(SUFFIXES)}): add some or remove the folder")
    if left_out := [file.name for file in files if not file.name.lower().endswith(SUFFIXES)]:
        log(f"{folder.as_posix()}: left out {len(left_out)} file(s) that are no pictures, such as {left_out[0]}")
    return pictures


# --- Sketches ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Drawer:
    seed: int
    size: int
    labels: NDArray[np.int64]

    def __call__(self, indices: NDArray[np.int64]) -> tuple[Pixels, list[str]]:
        # A generator for each picture: any part of the set can be drawn anywhere, in any order.
        drawn = [
            sketches.draw(int(self.labels[i]), self.size, np.random.default_rng([self.seed, int(i)])) for i in indices
        ]
        return np.stack(drawn), []


def drawn_sketches(size: int, count: int, seed: int) -> Source:
    """`count` sketches to train on and a sixth as many to test on, the classes in equal shares."""
    total = count + max(count // 6, 10)
    labels = np.arange(total, dtype=np.int64) % len(sketches.CLASSES)
    return Source(
        classes=sketches.CLASSES,
        labels=labels,
        test=np.arange(total) >= count,
        read=_Drawer(seed, size, labels),
        slow=True,
    )
