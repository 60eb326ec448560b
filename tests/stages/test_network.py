import pytest
import torch

from stages import params
from stages.network import Network, load
from tests.conftest import ROOT


def test_pictures_of_any_multiple_of_four_are_scored() -> None:
    network = Network(7, 16).eval()
    for side in (16, 28, 64):
        images = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
        assert network(images).shape == (3, 7)
        assert network.features(images).shape == (3, 16, side // 4, side // 4)


def test_normalisation_is_inside() -> None:
    network = Network(3, 8, mean=0.25, std=0.5).eval()
    seen = []
    network.body[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.full((1, 16, 16), 255, dtype=torch.uint8))
    assert seen[0].unique().tolist() == [1.5]


def test_the_default_stays_below_half_a_million_parameters() -> None:
    width = params.load(ROOT / "params.yaml").width
    assert sum(p.numel() for p in Network(10, width).parameters()) <= 500_000


def test_a_saved_network_is_read_back_as_it_was(run) -> None:
    network, record = load(str(run.models / "network.pt"))
    assert not network.training
    assert record["classes"][0] == "T-shirt/top"
    assert record["params"]["width"] == 16


def test_a_file_that_would_run_code_is_refused(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (print, ("code was run",))

    torch.save({"state": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        load(str(tmp_path / "evil.pt"))
