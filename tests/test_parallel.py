"""Two processes train as one would on both halves of the batch."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from speechlm_lab import parallel
from speechlm_lab.train import TrainConfig, step_generator, train

PROGRAM = """
import sys
from pathlib import Path
import torch
from test_parallel import half, train_on
folder = Path(sys.argv[1])
from speechlm_lab import parallel
rank = parallel.rank()
model = train_on([half(rank)], folder)
torch.save(model.state_dict(), folder / f"weights{rank}.pt")
"""
CONFIG = TrainConfig(steps=12, learning_rate=0.05, threads=1, log_every=4)


def half(rank):
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(8, 3, generator=generator), torch.randn(8, generator=generator)


def train_on(halves, folder):
    torch.manual_seed(parallel.rank())  # each starts elsewhere, and rank 0 decides
    model = nn.Linear(3, 1)
    model.register_buffer("codebook", torch.zeros(2))
    x, y = (torch.cat(parts) for parts in zip(*halves, strict=True))

    def loss(step):
        model.codebook += 1 + parallel.rank()  # rank 0 decides here, too
        return {"loss": (model(x)[:, 0] - y).square().mean()}

    train(model, loss, CONFIG, folder)
    return model


def test_two_processes_train_as_one(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", "2", str(tmp_path / "program.py"), str(tmp_path),
    ]  # fmt: skip
    tests = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one = torch.load(tmp_path / "weights0.pt", weights_only=True)
    other = torch.load(tmp_path / "weights1.pt", weights_only=True)
    alone = train_on([half(0), half(1)], tmp_path / "alone").state_dict()
    for name, weights in alone.items():
        assert torch.equal(one[name], other[name])
        assert torch.allclose(one[name], weights, atol=1e-6)
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert len(rows) == 1 + CONFIG.steps // CONFIG.log_every, "one process writes"


RANKS = """
import sys
import time
from pathlib import Path
from speechlm_lab import parallel
folder = Path(sys.argv[-1])
path = folder / "made"

def make():
    made = path.exists()
    path.write_text(str(parallel.rank()))
    return made

found = parallel.once(make)
parallel.wait()
(folder / f"rank{parallel.rank()}").write_text(f"{found} {parallel.part(10)}")
parallel.wait()
if parallel.rank() == 0:
    time.sleep(60)  # it is ended long before, because the other fails
sys.exit(7)
"""


def test_launch_starts_ranks_that_share_the_work(tmp_path, monkeypatch):
    (tmp_path / "speechlm_lab_ranks.py").write_text(RANKS)
    tests = Path(__file__).parent
    paths = [str(tmp_path), str(tests.parent)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    status = parallel.launch(2, [str(tmp_path)], "speechlm_lab_ranks")
    assert status == 7, "of the one that failed, not of the one that was ended"
    found = [(tmp_path / f"rank{i}").read_text() for i in range(2)]
    assert found == ["False 5", "True 5"], "rank 0 makes, rank 1 finds; half a batch"


def test_alone_nothing_changes():
    model = nn.Linear(2, 1)
    before = [p.clone() for p in model.parameters()]
    parallel.average_gradients(model)
    parallel.share(model)
    parallel.share_codebooks(model)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True)
    )
    assert (parallel.rank(), parallel.count()) == (0, 1)
    assert parallel.any_of(True) and not parallel.any_of(False)


def test_each_process_draws_batches_of_its_own(monkeypatch):
    first = torch.rand(3, generator=step_generator(0, 5))
    monkeypatch.setenv("RANK", "1")
    assert not torch.equal(torch.rand(3, generator=step_generator(0, 5)), first)
