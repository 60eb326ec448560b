"""Four numbers a picture."""

import numpy as np

from app.statistics import of_pictures


def test_a_black_and_a_white_picture() -> None:
    found = of_pictures(np.stack([np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)]))
    assert found["brightness"].tolist() == [0, 1]
    assert found["ink"].tolist() == [0, 1]
    assert found["contrast"].tolist() == [0, 0]
    assert found["sharpness"].tolist() == [0, 0]


def test_a_chessboard_is_as_sharp_as_can_be() -> None:
    board = (np.indices((28, 28)).sum(0) % 2 * 255).astype(np.uint8)
    smooth = np.tile(np.linspace(0, 255, 28).astype(np.uint8), (28, 1))
    found = of_pictures(np.stack([board, smooth]))
    assert found["sharpness"][0] == 4
    assert found["sharpness"][1] < 0.02
    assert 0.49 < found["contrast"][0] < 0.51


def test_no_pictures_give_no_numbers() -> None:
    assert all(len(values) == 0 for values in of_pictures(np.zeros((0, 28, 28), np.uint8)).values())
