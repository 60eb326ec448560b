"""prepare: pictures from a source -> data/prepared/, uint8 arrays that can be memory-mapped.

Reads:  the source that `dataset` names (and `data_dir`, for image-folder), and `extra_dir`.
Writes: data/prepared/{train,val,test}.images.npy  uint8 [N, S, S], light on black
        data/prepared/{train,val,test}.labels.npy  int64 [N]
        data/prepared/meta.json                    class names, counts, hash of the arrays
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stages import params
from stages.sources import Source, drawn_sketches, extra_folder, fashion_mnist, image_folder, joined, streaming
from stages.stage import StageError, log, run, sha256, whole_folder, write_json

SPLITS = ("train", "val", "test")


def prepare(
    out: Path,
    *,
    seed: int,
    dataset: str,
    data_dir: str,
    extra_dir: str,
    image_size: int,
    val_fraction: float,
    test_fraction: float,
    sketches: int,
) -> None:
    """Split a source's pictures and write them to `out`, whole or not at all.

    The pictures in `extra_dir` join the train split alone: the others stay what they were, so that what the extra ones
    gain or cost can be told. Without any, the bytes are those of the source.

    Memory stays flat: pictures pass through a chunk at a time into memory-mapped files.

    Raises:
        StageError: the source cannot be had, pictures cannot be read, or a class has too few of them.
    """
    if dataset == "fashion-mnist":
        source = fashion_mnist(image_size)
    elif dataset == "image-folder":
        source = image_folder(Path(data_dir), image_size)
    else:
        source = drawn_sketches(image_size, sketches, seed)
    splits = split(source, seed, val_fraction, test_fraction)
    extra = extra_folder(Path(extra_dir), source.classes, image_size)
    if len(extra.labels):
        first = len(source.labels)
        source = joined(source, extra)
        together = np.concatenate([splits["train"], np.arange(first, len(source.labels))])
        splits["train"] = np.random.default_rng([seed, len(together)]).permutation(together)

    problems: list[str] = []
    with (
        whole_folder(out) as folder,
        streaming(source) as stream,
        tqdm(total=len(source.labels), unit=" pictures", disable=None) as bar,
    ):
        for name, indices in splits.items():
            np.save(folder / f"{name}.labels.npy", source.labels[indices])
            images = np.lib.format.open_memmap(
                folder / f"{name}.images.npy", "w+", np.uint8, (len(indices), image_size, image_size)
            )
            done = 0
            for pictures, unreadable in stream(indices):
                images[done : done + len(pictures)] = pictures
                done += len(pictures)
                problems += unreadable
                bar.update(len(pictures))
            images.flush()
            del images  # Windows moves no folder with an open file in it
        if problems:
            named = "".join(f"\n  {problem}" for problem in problems[:20])
            more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
            raise StageError(f"{len(problems)} picture(s) cannot be read; mend or remove them:{named}{more}")
        arrays = [folder / f"{name}.{kind}.npy" for name in SPLITS for kind in ("images", "labels")]
        counts = {name: np.bincount(source.labels[i], minlength=len(source.classes)) for name, i in splits.items()}
        write_json(
            folder / "meta.json",
            {
                "dataset": dataset,
                "sha256": sha256(*arrays),
                "classes": list(source.classes),
                "image_size": image_size,
                "counts": {n: dict(zip(source.classes, c.tolist(), strict=True)) for n, c in counts.items()},
                # For the model's own record; data_dir is a path of the user's, and stays out.
                "params": {
                    "seed": seed,
                    "dataset": dataset,
                    "image_size": image_size,
                    "val_fraction": val_fraction,
                }
                | ({"test_fraction": test_fraction} if source.test is None else {})
                | ({"sketches": sketches} if dataset == "sketches" else {})
                | ({"extra": len(extra.labels)} if len(extra.labels) else {}),
            },
        )
    added = f", {len(extra.labels):,} of them from {extra_dir}" if len(extra.labels) else ""
    counted = ", ".join(f"{len(i):,} {n}" + (added if n == "train" else "") for n, i in splits.items())
    log(f"{dataset}: {counted}; {len(source.classes)} classes")


def split(source: Source, seed: int, val_fraction: float, test_fraction: float) -> dict[str, NDArray[np.int64]]:
    """Deal the pictures out to train, val and test: stratified, seeded, shuffled within each split.

    A source's own test split stays as it is; validation is always taken from the rest.

    Raises:
        StageError: a class has too few pictures for each split to hold one.
    """
    rng = np.random.default_rng([seed, len(source.labels)])
    dealt: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SPLITS}
    for label, name in enumerate(source.classes):
        members = np.flatnonzero(source.labels == label)
        if source.test is None:
            members = rng.permutation(members)
            n_test = max(1, round(test_fraction * len(members)))
            test, rest = members[:n_test], members[n_test:]
        else:
            test, rest = members[source.test[members]], rng.permutation(members[~source.test[members]])
        n_val = max(1, round(val_fraction * len(rest)))
        if len(test) < 1 or len(rest) - n_val < 1:
            raise StageError(
                f"class {name!r} has {len(members)} picture(s), too few to put at least one each into train, "
                "val and test: add pictures, or lower val_fraction or test_fraction"
            )
        dealt["test"].append(test)
        dealt["val"].append(rest[:n_val])
        dealt["train"].append(rest[n_val:])
    # Test pictures keep the source's order: picture 7 of the test split is everyone's picture 7.
    return {name: rng.permutation(np.concatenate(parts)) if name != "test" else np.sort(np.concatenate(parts))
            for name, parts in dealt.items()}  # fmt: skip


def main() -> None:
    """Run the stage on params.yaml."""
    prepare(Path("data/prepared"), **params.of(prepare))


if __name__ == "__main__":
    run(main)
