"""How much of what is no garment the exported model calls unusual: letters, photographs, noise, spoilt garments.

Nothing of it was used to fit anything. Letters are drawn in matplotlib's fonts, photographs are pieces of the pictures
that it carries; both go through the app's own reading of pictures.
"""

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from app.classifier import UNUSUAL, Classifier
from app.pictures import to_model_input

Pixels = NDArray[np.uint8]
COUNT = 500
DATA = Path(matplotlib.get_data_path())


def drawn(characters: str, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Characters in fonts of many kinds, white on black."""
    fonts = sorted(DATA.glob("fonts/ttf/*.ttf"))
    pictures: list[Pixels] = []
    while len(pictures) < COUNT:
        image = Image.new("L", (112, 112))
        font = ImageFont.truetype(fonts[rng.integers(len(fonts))], 90)
        ImageDraw.Draw(image).text((56, 56), characters[rng.integers(len(characters))], 255, font, anchor="mm")
        if image.getbbox():  # a font may lack the letter
            pictures.append(to_model_input(image, size))
    return np.stack(pictures)


def photographs(size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Square pieces of photographs."""
    files = sorted(DATA.glob("sample_data/*.jpg")) + sorted(DATA.glob("sample_data/*.png"))
    images = [Image.open(file).convert("RGB") for file in files]
    pieces = []
    for _ in range(COUNT):
        image = images[rng.integers(len(images))]
        side = int(rng.integers(80, min(image.size)))
        left, top = (int(rng.integers(0, whole - side + 1)) for whole in image.size)
        pieces.append(to_model_input(image.crop((left, top, left + side, top + side)), size))
    return np.stack(pieces)


def main() -> None:
    """Print, for each kind, the share called unusual and the area under the ROC curve against the test split."""
    classifier = Classifier.from_directory("models")
    test = np.load("data/prepared/test.images.npy")
    rng = np.random.default_rng(0)
    some = test[rng.permutation(len(test))[: 2 * COUNT]]
    kinds = {
        "test split": test,
        "capital letters": drawn("ABCDEFGHIJKLMNOPQRSTUVWXYZ", classifier.image_size, rng),
        "digits": drawn("0123456789", classifier.image_size, rng),
        "pieces of photographs": photographs(classifier.image_size, rng),
        "noise": rng.integers(0, 256, (COUNT, *classifier.image_size), np.uint8),
        "garments, inverted": 255 - some[:COUNT],
        "garments, quarters swapped": np.roll(some[:COUNT], (14, 14), (1, 2)),
        "garments, upside down": some[:COUNT, ::-1],
        "garments, on their side": np.rot90(some[:COUNT], axes=(1, 2)),
        "two garments in one": ((some[:COUNT].astype(int) + some[COUNT:]) // 2).astype(np.uint8),
    }
    usual = np.sort(classifier.predict(test).in_distribution)
    print(f"{'kind':28} unusual  AUROC")
    for kind, pictures in kinds.items():
        shares = classifier.predict(np.ascontiguousarray(pictures)).in_distribution
        # Mann-Whitney: how often a test picture is more usual than one of these, ties counted half.
        below, upto = np.searchsorted(usual, shares, "left"), np.searchsorted(usual, shares, "right")
        area = 1 - (below + upto).mean() / 2 / len(usual)
        print(f"{kind:28} {(shares < UNUSUAL).mean():7.1%}  {area:.3f}")


if __name__ == "__main__":
    main()
