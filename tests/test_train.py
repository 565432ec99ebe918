"""Training: the loop, its checkpoints, and being killed."""

import csv
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from speechlm_lab import recipes
from speechlm_lab.codec import CodecConfig
from speechlm_lab.lm import LMConfig
from speechlm_lab.recipes import CodecRecipe, LMRecipe
from speechlm_lab.recipes.lm import sample_codes
from speechlm_lab.recipes.pool import PoolConfig, make_pool
from speechlm_lab.recipes.refit import Refit
from speechlm_lab.train import (
    LOG,
    STATE,
    TrainConfig,
    TrainError,
    learning_rate,
    step_generator,
    train,
)

STEPS = 40
FAST = TrainConfig(
    STEPS, learning_rate=3e-3, warmup=5, threads=1, save_every=0.05, log_every=1
)
SPEECH = PoolConfig(minutes=0.3, speakers=3)
TEST = PoolConfig("held-out", minutes=0.1, speakers=2)
CODEC = CodecRecipe(
    codec=CodecConfig(
        width=24, fine_width=16, encoder_layers=1, decoder_layers=1, fine_layers=1,
        spectrum=8, semantic=4, codebooks=2, codebook_size=16,
    ),
    train=FAST, pool=SPEECH, test=TEST,
    batch=2, clip=0.3, real=0.0, start_batches=2,
    refit=Refit(gammas=(1.0,), minutes=0.2, clip=1.0),
)  # fmt: skip


def lm_recipe(codec: Path) -> LMRecipe:
    lm = LMConfig(codebooks=2, codebook_size=16, width=16, layers=2, heads=2, hidden=24)
    return LMRecipe(
        codec=str(codec), lm=lm, train=FAST, pool=SPEECH, test=TEST,
        batch=2, frames=40, weights=(2.0, 1.0),
    )  # fmt: skip


def state_of(folder: Path) -> dict:
    return torch.load(folder / STATE, weights_only=True)


def assert_same(one, two):
    """Equality, bit for bit, of nested states; names what differs."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


def losses_of(folder: Path) -> list[dict]:
    with (folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def start(name: str, folder: Path, codec: Path) -> subprocess.Popen:
    """The recipe `name` of this file, in a process of its own."""
    make = "CODEC" if name == "codec" else f"lm_recipe(Path({str(codec)!r}))"
    code = (
        "from pathlib import Path; from test_train import *; "
        f"{make}.run(Path({str(folder)!r}))"
    )
    tests, root = Path(__file__).parent, Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tests}"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Both recipes, never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    CODEC.run(folder / "codec")
    lm_recipe(folder / "codec").run(folder / "lm")
    return folder


@pytest.mark.parametrize("name", ["codec", "lm"])
def test_killed_at_three_moments_it_ends_in_the_same_weights(name, whole, tmp_path):
    folder = tmp_path / name
    steps = sorted(random.Random(name).sample(range(1, STEPS - 2), 3))
    for last in steps:
        process = start(name, folder, whole / "codec")
        for line in process.stdout:
            if line.startswith("step ") and int(line.split()[1].split("/")[0]) >= last:
                break
        process.kill()  # SIGKILL: no chance to tidy up
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    process = start(name, folder, whole / "codec")
    output, _ = process.communicate()
    assert process.returncode == 0
    assert "step 1/" not in output, "it began anew instead of resuming"

    one, two = state_of(folder), state_of(whole / name)
    for state in (one, two):
        del state["seconds"]
    assert_same(one, two)
    assert losses_of(folder) == losses_of(whole / name)
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (whole / name / weights).read_bytes()


def test_a_recipe_leaves_a_whole_checkpoint(whole):
    for name in ("codec", "lm"):
        kept = {path.name for path in (whole / name).iterdir()}
        assert {"model.safetensors", "config.json", "README.md", LOG} <= kept
        card = (whole / name / "README.md").read_text()
        assert f"train {name}" in card
        assert "held-out voices" in card
        assert not list((whole / name).glob("*.part"))


def test_a_signal_saves_and_the_same_command_goes_on(whole, tmp_path):
    process = start("codec", tmp_path, whole / "codec")
    for line in process.stdout:
        if line.startswith("step 15/"):
            process.send_signal(signal.SIGTERM)
            break
    process.communicate()
    assert process.returncode == 0, "it ended by itself"
    stopped = state_of(tmp_path)["step"]
    assert 15 <= stopped < STEPS
    assert CODEC.run(tmp_path).finished
    assert_same(state_of(tmp_path)["model"], state_of(whole / "codec")["model"])


# The loop itself, on a model small enough to follow.


def line_fit(folder, config=None, resume=True, settings=None, seen=None):
    """Fit y = 3 x by `train`; `seen` collects the steps that ran."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    config = config or TrainConfig(200, 0.1, threads=1, log_every=50)

    def loss(step):
        if seen is not None:
            seen.append(step)
        x = torch.randn(8, 1, generator=step_generator(config.seed, step))
        return {"loss": (model(x) - 3 * x).square().mean()}

    return model, train(model, loss, config, folder, settings, resume)


def test_it_fits(tmp_path):
    model, training = line_fit(tmp_path)
    assert model.weight.item() == pytest.approx(3, abs=0.01)
    assert training.finished
    assert [row["step"] for row in losses_of(tmp_path)] == ["50", "100", "150", "200"]


def test_a_finished_training_does_nothing_more(tmp_path):
    line_fit(tmp_path)
    seen = []
    line_fit(tmp_path, seen=seen)
    assert seen == []
    line_fit(tmp_path, resume=False, seen=seen)
    assert seen == list(range(200))


def test_other_settings_are_not_resumed(tmp_path):
    line_fit(tmp_path, settings={"batch": 8})
    with pytest.raises(TrainError, match="batch was 8, now 9.*another folder"):
        line_fit(tmp_path, settings={"batch": 9})


def test_a_damaged_checkpoint_is_said_to_be_one(tmp_path):
    line_fit(tmp_path)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:-99])
    with pytest.raises(TrainError, match="without resuming"):
        line_fit(tmp_path)


def test_a_loss_that_is_not_finite_stops_it(tmp_path):
    model = nn.Linear(1, 1)
    with pytest.raises(TrainError, match="nan at step 0: lower the learning rate"):
        train(
            model, lambda step: {"loss": model.weight.sum() * torch.nan},
            TrainConfig(5, threads=1), tmp_path,
        )  # fmt: skip


def test_a_half_written_row_of_the_log_is_dropped(tmp_path):
    line_fit(tmp_path)
    rows = losses_of(tmp_path)
    with (tmp_path / LOG).open("a") as file:
        file.write("250,1.")
    line_fit(tmp_path)
    assert losses_of(tmp_path) == rows


def test_the_learning_rate_rises_stays_and_falls():
    config = TrainConfig(100, learning_rate=1.0, warmup=10, decay=0.4)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:60] == [1.0] * 50
    assert rates[80] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.05


def test_each_step_and_seed_has_its_own_generator():
    def draw(seed, step):
        return torch.rand(4, generator=step_generator(seed, step)).tolist()

    assert draw(0, 1) == draw(0, 1)
    assert len({tuple(draw(seed, step)) for seed in (0, 1) for step in (0, 1)}) == 4


# The data of the recipes.


def test_a_pool_is_kept_and_another_is_not_mistaken_for_it(tmp_path):
    path = tmp_path / "pool.npz"
    one = make_pool(TEST, path, workers=0)
    written = path.stat().st_mtime_ns
    two = make_pool(TEST, path, workers=0)
    assert path.stat().st_mtime_ns == written
    assert (one.wave == two.wave).all()
    path.write_bytes(path.read_bytes()[:-99])  # damaged: made again
    assert (make_pool(TEST, path, workers=0).wave == one.wave).all()
    other = make_pool(replace(TEST, seed=1), path, workers=0)
    assert path.stat().st_mtime_ns != written
    assert len(other.wave) != len(one.wave) or (other.wave != one.wave).any()


def test_a_pool_does_not_depend_on_the_workers(tmp_path):
    one = make_pool(SPEECH, tmp_path / "one.npz", workers=0)
    two = make_pool(SPEECH, tmp_path / "two.npz", workers=2)
    assert (one.wave == two.wave).all()
    assert (one.starts == two.starts).all()


def test_a_stretch_of_codes_stays_with_one_speaker():
    streams = [
        torch.full((2, f), i, dtype=torch.int16) for i, f in enumerate((9, 5, 7))
    ]
    codes = sample_codes(streams, 200, 6, torch.Generator().manual_seed(0))
    assert codes.shape == (200, 2, 6)
    assert (codes == codes[:, :1, :1]).all()
    assert set(codes[:, 0, 0].tolist()) == {0, 2}, "5 frames are too few"
    with pytest.raises(TrainError, match="fewer speakers"):
        sample_codes(streams, 2, 10, torch.Generator())


def test_every_place_of_a_stream_is_drawn():
    stream = torch.arange(9, dtype=torch.int16).expand(2, 9)
    codes = sample_codes([stream], 300, 6, torch.Generator().manual_seed(0))
    assert set(codes[:, 0, 0].tolist()) == {0, 1, 2, 3}


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    status = recipes.main(
        ["lm", "--codec", str(tmp_path / "none"), "--out", str(tmp_path / "lm")]
    )
    assert status == 1
    assert "train codec` first" in capsys.readouterr().err
    with pytest.raises(TrainError, match="choose from codec, "):
        recipes.run("tts")
    for options in ({"steps": 0}, {"minutes": float("nan")}, {"threads": -1}):
        with pytest.raises(TrainError, match="more than 0"):
            recipes.run("codec", tmp_path, **options)
