"""The patterns of codes at equal budget: one small language model for each.

    python benchmarks/patterns.py runs/patterns [--seconds 200] [--seeds 0]

Five models of nearly the same number of weights learn the first 4 levels of the shipped
codec's codes of TinyVoices, each in another order (`lm.ORDERS`). They take turns of a
few processor seconds, so that a busy machine slows all alike; the rate stays constant,
and an average of the weights is measured. So each point of a curve stands for a
training that ended there, and one run serves both budgets: equal processor seconds
and equal frames seen.

Measured on ten voices that no model has heard: nats a frame, the sum over the levels.
By the chain rule that is the price of the same codes whatever the order, so it alone is
comparable; a single level's price depends on what its order lets it know. Then each
model babbles: what share of the pairs (level 1, level 2) of its frames does not occur
in the training data at all, and how long does a second of sound take. That does not
depend on what a model has learnt, so `--speed` measures it again, alone.

It writes `patterns.csv` (the curves), `patterns_after.csv` (the last table) and
`patterns.flac` (2.5 s of babble of each, the first seed's) next to this file.
"""

import argparse
import copy
import csv
import hashlib
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechlm_lab import audio
from speechlm_lab.codec import SHIPPED, load_shipped
from speechlm_lab.lm import ORDERS, LanguageModel, LMConfig, places
from speechlm_lab.probes import interval
from speechlm_lab.recipes.lm import encode_stream, sample_codes
from speechlm_lab.recipes.pool import PoolConfig, make_pool, read_arrays, write_arrays
from speechlm_lab.train import Interrupt, step_generator

HERE = Path(__file__).parent
LEVELS, FRAMES, BATCH, RATE = 4, 128, 4, 3e-3
SIZES = {"codebooks": LEVELS, "width": 64, "layers": 3, "heads": 2, "hidden": 170}
# one layer fewer of the backbone pays for the depth Transformer, nearly
DEPTH = {"layers": 2, "depth_layers": 1, "depth_width": 40, "hidden": 203}
TURN = 5.0  # processor seconds
SPEED = "CPU seconds a second of sound"
PLAIN = {"emotions": ("neutral",), "sounds": 0, "scenes": 0}
POOLS = {
    "pool": PoolConfig(minutes=240, speakers=200, **PLAIN),
    "test": PoolConfig("held-out", minutes=3, speakers=10, **PLAIN),
}


def streams(name: str, folder: Path) -> list[Tensor]:
    """The codes `[K, F]` of each speaker of a pool; made once, then kept."""
    config, path = POOLS[name], folder / f"{name}_codes.npz"
    codec = hashlib.sha256((Path(SHIPPED) / "model.safetensors").read_bytes())
    key = json.dumps([codec.hexdigest(), LEVELS, asdict(config)])
    kept = read_arrays(path, key)
    if kept is None:
        pool, codec = make_pool(config, folder / f"{name}.npz", 1), load_shipped()
        codes = [
            encode_stream(codec, pool.speaker(i), LEVELS)
            for i in range(len(pool.starts) - 1)
        ]
        ends = np.cumsum([c.shape[1] for c in codes])
        kept = {"codes": torch.cat(codes, dim=1).numpy(), "ends": ends}
        write_arrays(path, key, **kept)
    pieces = np.split(kept["codes"], kept["ends"][:-1], axis=1)
    return [torch.from_numpy(np.ascontiguousarray(piece)) for piece in pieces]


class Runner:
    """One model on its way, with the average of its weights."""

    def __init__(self, pattern: str, seed: int) -> None:
        torch.manual_seed(seed)
        sizes = SIZES | (DEPTH if pattern == "depth" else {})
        self.pattern, self.seed = pattern, seed
        self.model = LanguageModel(LMConfig(pattern=pattern, **sizes))
        self.mean = copy.deepcopy(self.model).eval()
        self.adam = torch.optim.AdamW(
            self.model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.05
        )
        self.seconds, self.steps = 0.0, 0

    def turn(self, data: list[Tensor], seconds: float) -> None:
        """Train for some processor seconds."""
        start = time.process_time()
        while time.process_time() - start < seconds:
            generator = step_generator(self.seed, self.steps)
            codes = sample_codes(data, BATCH, FRAMES, generator)
            for group in self.adam.param_groups:
                group["lr"] = RATE * min(1.0, (self.steps + 1) / 50)
            self.adam.zero_grad()
            self.model.loss(codes).sum().backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.adam.step()
            self.steps += 1
            keep = min(0.99, (1 + self.steps) / (10 + self.steps))
            with torch.no_grad():
                slow, fast = (list(m.parameters()) for m in (self.mean, self.model))
                torch._foreach_lerp_(slow, fast, 1 - keep)
        self.seconds += time.process_time() - start

    @torch.no_grad()
    def measure(self, test: Tensor) -> Tensor:
        """Nats `[N, K]` of each test stretch `[N, K, F]`, a frame."""
        return torch.cat([self.mean.nats(part).mean(2) for part in test.split(8)])


def seen_pairs(data: list[Tensor], size: int) -> Tensor:
    """Whether level 1 and level 2 occur together: bool `[V, V]`."""
    seen = torch.zeros(size, size, dtype=torch.bool)
    for codes in data:
        seen[codes[0].long(), codes[1].long()] = True
    return seen


def draw(model: LanguageModel, rows: int) -> Tensor:
    """Codes `[rows, K, F]` out of nothing."""
    nothing = torch.zeros(rows, LEVELS, 0, dtype=torch.long)
    return model.generate(nothing, FRAMES, generator=torch.Generator().manual_seed(1))


def writing_seconds(models: list[LanguageModel], rounds: int = 9) -> list[float]:
    """Median processor seconds that each takes for `FRAMES` frames, taking turns."""
    taken: list[list[float]] = [[] for _ in models]
    for _ in range(rounds):
        for model, seconds in zip(models, taken, strict=True):
            start = time.process_time()
            draw(model, 1)
            seconds.append(time.process_time() - start)
    return [statistics.median(seconds) for seconds in taken]


def babble(
    runner: Runner, seen: Tensor, seconds: float, frame_rate: float
) -> tuple[dict, Tensor]:
    """What it draws out of nothing: speed, pairs never seen, codes `[K, F]`."""
    many = draw(runner.mean, 32)
    unseen = ~seen[many[:, 0], many[:, 1]]
    last = places(runner.pattern, LEVELS, FRAMES).max() + 1
    return {
        "steps a second of sound": round(float(last) / FRAMES * frame_rate),
        SPEED: round(seconds / FRAMES * frame_rate, 3),
        "pairs never seen, %": round(100 * unseen.double().mean().item(), 1),
    }, draw(runner.mean, 1)[0]


def measure_speed_again(path: Path) -> None:
    """The speeds in the table `path` anew, of models with fresh weights."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    models = [Runner(row["pattern"], 0).mean for row in rows]
    frame_rate = load_shipped().frame_rate
    for row, seconds in zip(rows, writing_seconds(models), strict=True):
        row[SPEED] = round(seconds / FRAMES * frame_rate, 3)
        print(row["pattern"], row[SPEED])
    write(path, rows)


def point(runner: Runner, levels: list[float]) -> dict:
    """A row of the curves."""
    return {
        "seed": runner.seed,
        "pattern": runner.pattern,
        "cpu_seconds": round(runner.seconds, 1),
        "frames": runner.steps * BATCH * FRAMES,
        **{f"level_{k + 1}": round(n, 4) for k, n in enumerate(levels)},
    }


def write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="for the codes of the training data")
    parser.add_argument("--seconds", type=float, default=200, help="of CPU, a pattern")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--speed", action="store_true", help="speed alone, no training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.speed:
        return measure_speed_again(HERE / "patterns_after.csv")
    args.folder.mkdir(parents=True, exist_ok=True)
    data, held = streams("pool", args.folder), streams("test", args.folder)
    codec = load_shipped()
    pieces = [(i, p) for i, s in enumerate(held) for p in s.split(FRAMES, dim=1)]
    pieces = [(i, p.long()) for i, p in pieces if p.shape[1] == FRAMES]
    pieces = pieces[:: len(pieces) // 40 or 1]
    voices = torch.tensor([i for i, _ in pieces])
    test = torch.stack([p for _, p in pieces])
    curves, after, sounds = [], [], []
    for seed in args.seeds:
        runners = [Runner(pattern, seed) for pattern in ORDERS]
        totals = {}
        turn, done = 0, False
        with Interrupt() as interrupt:
            while not done:
                turn += 1
                done = interrupt.received or turn * TURN >= args.seconds
                for runner in runners:
                    runner.turn(data, TURN)
                    if done or turn % 3 == 0 or turn & (turn - 1) == 0:
                        nats = runner.measure(test)
                        totals[runner.pattern] = nats.sum(1)
                        curves.append(point(runner, nats.mean(0).tolist()))
                        print(list(curves[-1].values()), flush=True)
                write(HERE / "patterns.csv", curves)
        seen = seen_pairs(data, runners[0].model.config.codebook_size)
        speeds = writing_seconds([runner.mean for runner in runners])
        for runner, seconds in zip(runners, speeds, strict=True):
            found, codes = babble(runner, seen, seconds, codec.frame_rate)
            gap = interval(totals[runner.pattern] - totals["parallel"], voices)
            weights = sum(p.numel() for p in runner.model.parameters())
            row = {"seed": seed, "pattern": runner.pattern, "weights": weights}
            row |= {"training steps": runner.steps}
            row["nats a frame"] = round(totals[runner.pattern].mean().item(), 2)
            row["less parallel, low"] = round(gap.low, 2)
            row["less parallel, high"] = round(gap.high, 2)
            after.append(row | found)
            if seed == args.seeds[0]:
                sounds.append(codec.decode(codes[None])[0].clamp(-1, 1))
        real = torch.cat([~seen[s[0].long(), s[1].long()] for s in held])
        print(f"pairs never seen in held-out speech: {real.double().mean():.1%}")
        write(HERE / "patterns_after.csv", after)
        audio.save(HERE / "patterns.flac", torch.cat(sounds))
    print("| " + " | ".join(after[0]) + " |")
    print("|" + "---|" * len(after[0]))
    for row in after:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
