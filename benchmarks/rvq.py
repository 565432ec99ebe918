"""Encoding by our ResidualVQ beside vector-quantize-pytorch's and DAC's own.

    python benchmarks/rvq.py [--threads 1]

Each pair has the same sizes and the same codebooks, copied, and gets the same latents:
the codes are compared, then each is timed, turn by turn, and the median told. What is
not installed (`pip install vector-quantize-pytorch`) is left out and said so. The peers
have no function that only encodes: their `forward` in evaluation mode also makes the
quantized latents, and DAC's its losses.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from speechlm_lab.codec.torchaudio_check import ensure_torchaudio
from speechlm_lab.quantize import ResidualVQ, from_dac

SECONDS = 60  # of latents at 50 frames a second
ROUNDS = 15


def peer_library(latents: Tensor) -> tuple[Callable, Callable]:
    """Ours and vector-quantize-pytorch's, 8 codebooks of 512, searched in all of D."""
    from vector_quantize_pytorch import ResidualVQ as Theirs

    theirs = Theirs(dim=latents.shape[-1], num_quantizers=8, codebook_size=512).eval()
    ours = ResidualVQ(8, 512, latents.shape[-1]).eval()
    # learnt from others: of the latents that it was placed on too little would be left
    residual = torch.randn(1, 20_000, latents.shape[-1])
    for mine, level in zip(ours.levels, theirs.layers, strict=True):
        mine.start(residual)
        level._codebook.embed.copy_(mine.codebook[None])
        level._codebook.initted.fill_(True)
        residual = residual - mine.decode(mine.encode(residual))
    return (
        lambda: ours.encode(latents),
        lambda: theirs(latents)[1].permute(0, 2, 1),
    )


def dac(latents: Tensor) -> tuple[Callable, Callable]:
    """Ours and DAC's, 12 codebooks of 1024, searched by direction in 8 dimensions."""
    ensure_torchaudio()
    from dac.nn.quantize import ResidualVectorQuantize

    theirs = ResidualVectorQuantize(latents.shape[-1], 12, 1024, 8).eval()
    ours = from_dac(theirs.state_dict())
    upright = latents.transpose(1, 2).contiguous()
    return lambda: ours.encode(latents), lambda: theirs(upright)[1]


def compare(name: str, ours: Callable, theirs: Callable) -> None:
    """Print a row: agreement of codes, median seconds of each, and their ratio."""
    same = (ours() == theirs()).double().mean().item()
    spent: dict[Callable, list[float]] = {ours: [], theirs: []}
    for _ in range(ROUNDS):
        for run in spent:
            began = time.perf_counter()
            run()
            spent[run].append(time.perf_counter() - began)
    mine, other = (1000 * statistics.median(times) for times in spent.values())
    print(
        f"| {name} | {same:.3%} | {mine:.0f} | {other:.0f} | {other / mine:.2f} |",
        flush=True,
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    latents = torch.randn(1, SECONDS * 50, 64)
    print(f"{SECONDS} s of latents, {torch.get_num_threads()} threads")
    print("| peer | same codes | ours, ms | peer, ms | times faster |")
    print("|---|---|---|---|---|")
    wide = torch.randn(1, SECONDS * 50, 1024)
    peers = {
        "vector_quantize_pytorch": (peer_library, latents),
        "dac": (dac, wide),
    }
    for package, (make, values) in peers.items():
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, so it is left out")
            continue
        compare(package, *make(values))


if __name__ == "__main__":
    main()
