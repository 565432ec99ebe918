"""The recipe of the small DAC: how it starts, how it stops, what it leaves."""

import csv
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional as nnf

from speechlm_lab import recipes
from speechlm_lab.codec.descript import DescriptAdapter, import_dac
from speechlm_lab.recipes.dac_small import (
    SHIPPED_DAC,
    DacSizes,
    DacSmallRecipe,
    kmeans_by_direction,
    load_dac_small,
    save_dac,
    start_level,
)
from speechlm_lab.recipes.pool import PoolConfig
from speechlm_lab.train import LOG, STATE, TrainConfig

# the package's own use of an old weight_norm is no news here
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SIZES = DacSizes(
    encoder_dim=4, encoder_rates=(4, 8), latent_dim=12, decoder_dim=16,
    decoder_rates=(8, 4), n_codebooks=3, codebook_size=32,
)  # fmt: skip
RECIPE = DacSmallRecipe(
    model=SIZES,
    train=TrainConfig(12, warmup=2, threads=1, log_every=1, save_every=1e9),
    pool=PoolConfig(minutes=0.2, speakers=2),
    test=PoolConfig("held-out", minutes=0.1, speakers=2),
    batch=2, clip=0.2, unquantized=4, start_batches=6,
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    return import_dac().DAC(**asdict(SIZES)).eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert RECIPE.run(folder).finished
    return folder


def test_it_is_a_recipe_of_the_command_line():
    assert recipes.RECIPES["dac-small"] is DacSmallRecipe


def test_points_of_few_directions_get_a_centre_each():
    generator = torch.Generator().manual_seed(0)
    directions = nnf.normalize(torch.randn(6, 8, generator=generator))
    lengths = 1 + torch.rand(600, 1, generator=generator)
    points = directions.repeat(100, 1) * lengths
    centres = kmeans_by_direction(points, 12, generator)
    best = (nnf.normalize(points) @ nnf.normalize(centres).T).max(1).values
    assert (best > 0.9).float().mean() > 0.8
    assert centres.shape == (12, 8) and centres.isfinite().all()


def test_a_start_leaves_less_at_each_level_and_uses_its_entries(model):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2000, 12, generator=generator) * torch.linspace(2, 0.2, 12)
    residual, left = points, [points.square().mean().item()]
    for level in model.quantizer.quantizers:
        made = start_level(level, residual, generator)
        z, _, _, codes, _ = level(residual.T[None])
        assert torch.allclose(z[0].T, made, atol=1e-4)  # theirs does what we computed
        assert len(codes.unique()) > 24
        residual = residual - made
        left.append(residual.square().mean().item())
    assert left == sorted(left, reverse=True) and left[-1] < left[0] / 3


def test_weights_come_back_in_half_precision_and_without_a_pickle(model, tmp_path):
    save_dac(model, SIZES, tmp_path)
    again = load_dac_small(tmp_path)
    assert type(again) is import_dac().DAC and not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name
    # the package's own class takes the configuration as it is
    import_dac().DAC(**json.loads((tmp_path / "config.json").read_text()))


def test_no_weights_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="train dac-small"):
        load_dac_small(tmp_path)


def test_a_training_leaves_a_model_and_a_card_that_says_what_it_is(trained):
    codec = DescriptAdapter(load_dac_small(trained))
    assert codec.codebooks == 3 and codec.hop == 32
    wave = torch.randn(1, 320) * 0.1
    assert codec.decode(codec.encode(wave)).shape == (1, 320)
    card = (trained / "README.md").read_text()
    for told in ("**A toy.**", "not Descript's", "| | |", "train dac-small", "TinyVoi"):
        assert told in card
    with (trained / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    before, after = rows[3], rows[4]
    assert float(before["codebook"]) == 0 < float(after["codebook"])


def test_a_training_that_stops_goes_on_to_the_same_weights(trained, tmp_path):
    recipe = replace(RECIPE, train=replace(RECIPE.train, save_every=0))
    sample = DacSmallRecipe.sample_batch
    for stop in (4, 7):  # right where the codebooks start, and behind it

        def interrupted(self, pool, step, stop=stop):
            if step == stop:
                raise KeyboardInterrupt
            return sample(self, pool, step)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DacSmallRecipe, "sample_batch", interrupted)
            with pytest.raises(KeyboardInterrupt):
                recipe.run(tmp_path)
    assert recipe.run(tmp_path).finished
    whole = torch.load(trained / STATE, weights_only=True)["model"]
    parts = torch.load(tmp_path / STATE, weights_only=True)["model"]
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name


@pytest.mark.skipif(not SHIPPED_DAC.exists(), reason="nothing is shipped yet")
class TestShipped:
    def test_it_is_small_and_in_files_that_cannot_run_code(self):
        files = {path.name: path.stat().st_size for path in SHIPPED_DAC.iterdir()}
        assert set(files) == {
            "README.md",
            "config.json",
            "log.csv",
            "model.safetensors",
        }
        assert sum(files.values()) < 3_000_000

    def test_it_was_trained_by_the_recipe_of_today(self):
        config = json.loads((SHIPPED_DAC / "config.json").read_text())
        assert config == json.loads(json.dumps(asdict(DacSizes())))
        assert str(DacSizes()) in (SHIPPED_DAC / "README.md").read_text()
