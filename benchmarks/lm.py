"""Our language model beside transformers' Llama, and how fast it speaks.

    python benchmarks/lm.py --threads 1

Both have the same layers, widths and vocabulary, and the same weights. Training: whole
steps (forward, backward, AdamW). Generation: one sequence, always the likeliest token,
with a cache each; Llama by its own `generate`. The two take turns, and
the median of the rounds counts, so that what else the machine does hurts both.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch.nn import functional as nnf

from speechlm_lab.codec.torchaudio_check import ensure_torchaudio
from speechlm_lab.corpus.tiny_voices import speak
from speechlm_lab.lm import LanguageModel, LMConfig
from speechlm_lab.speechlm import SpeechLM


def llama_of(model: LanguageModel, blank: bool = False) -> torch.nn.Module:
    """transformers' Llama with the weights of a model of one codebook.

    With `blank` it knows the blank, too, with which our `generate` begins.
    """
    ensure_torchaudio()
    from transformers import LlamaConfig, LlamaForCausalLM

    c = model.config
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=c.codebook_size + blank, hidden_size=c.width,
            intermediate_size=c.hidden, num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads or c.heads, rope_theta=c.rope_base,
            rms_norm_eps=1e-6, max_position_embeddings=4_096, bos_token_id=None,
            eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip
    known = model.embeddings[0].weight.data[: llama.config.vocab_size]
    llama.model.embed_tokens.weight.data = known.clone()
    llama.lm_head.weight.data.zero_()  # the blank's: 0, less than the likeliest
    llama.lm_head.weight.data[: c.codebook_size] = model.heads[0].weight.data
    llama.model.norm.load_state_dict(model.norm.state_dict())
    for theirs, ours in zip(llama.model.layers, model.layers, strict=True):
        width = c.width // c.heads
        sizes = [c.heads * width] + [(c.kv_heads or c.heads) * width] * 2
        q, k, v = ours.attention.qkv.weight.data.split(sizes)
        attention, mlp = theirs.self_attn, theirs.mlp
        attention.q_proj.weight.data = q.clone()
        attention.k_proj.weight.data = k.clone()
        attention.v_proj.weight.data = v.clone()
        attention.o_proj.weight.data = ours.attention.out.weight.data.clone()
        for name in ("gate", "up", "down"):
            weight = getattr(ours.feed_forward, name).weight.data.clone()
            getattr(mlp, f"{name}_proj").weight.data = weight
        theirs.input_layernorm.load_state_dict(ours.attention_norm.state_dict())
        after = ours.feed_forward_norm.state_dict()
        theirs.post_attention_layernorm.load_state_dict(after)
    return llama


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def compare(ours: Callable, theirs: Callable, rounds: int) -> tuple[float, float]:
    """Median seconds of each, taking turns."""
    ours(), theirs()  # the first call sets things up
    pairs = torch.tensor([[seconds(ours), seconds(theirs)] for _ in range(rounds)])
    return tuple(pairs.median(0).values.tolist())


def training_step(model: torch.nn.Module, logits: Callable, codes: torch.Tensor):
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        scores = logits(codes[:, :-1])
        nnf.cross_entropy(scores.transpose(1, 2), codes[:, 1:]).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours = LanguageModel(LMConfig(codebooks=1))
    theirs = llama_of(ours)
    count = sum(p.numel() for p in ours.parameters())
    codes = torch.randint(0, 512, (options.batch, options.length))
    with torch.no_grad():
        gap = (ours(codes[:, None])[:, 0] - theirs(codes).logits).abs().max()
    print(
        f"{count:,} parameters, {options.threads} thread(s); logits differ by {gap:.1e}"
    )
    print("\n| | ours | transformers' Llama | times faster |\n|---|---|---|---|")

    positions = options.batch * (options.length - 1)
    pair = compare(
        training_step(ours, lambda x: ours(x[:, None])[:, 0], codes),
        training_step(theirs, lambda x: theirs(x).logits, codes),
        options.rounds,
    )
    row("training, positions a second", *(positions / s for s in pair), pair)

    ours.eval(), theirs.eval()
    prompt, new = codes[:1, :64], 192
    settings = {"max_new_tokens": new, "do_sample": False, "use_cache": True}
    begun = nnf.pad(prompt, (1, 0), value=ours.config.blank)
    mask = torch.ones_like(begun)
    with torch.no_grad():
        pair = compare(
            lambda: ours(prompt[:, None]), lambda: theirs(prompt), options.rounds
        )
        row("64 tokens of prompt, ms", *(1000 * s for s in pair), pair)
        theirs = llama_of(ours, blank=True).eval()
        one = ours.generate(prompt[:, None], new, temperature=0)[0, 0]
        other = theirs.generate(begun, attention_mask=mask, **settings)[0, 1:]
        same = (one == other).float().mean()
        pair = compare(
            lambda: ours.generate(prompt[:, None], new, temperature=0),
            lambda: theirs.generate(begun, attention_mask=mask, **settings),
            options.rounds,
        )
    row("generation, tokens a second", *(new / s for s in pair), pair)
    print(f"\nthe same tokens: {same:.0%}")
    speech(options.rounds)


def row(name: str, ours: float, theirs: float, pair: tuple[float, float]) -> None:
    print(f"| {name} | {ours:,.1f} | {theirs:,.1f} | {pair[1] / pair[0]:.2f} |")


def speech(rounds: int) -> None:
    """How fast the shipped model speaks, and how soon."""
    model = SpeechLM.from_pretrained()
    voice = speak("The old clock in the hall is never on time.", "held-out:1").wave
    text = "We should ask her about the weather in July."
    first = {"a new voice": [], "a voice that was heard before": []}
    voices = dict(zip(first, (voice, model.hear(voice)), strict=True))
    whole, length = 0.0, 0
    for seed in range(rounds):
        for name, who in voices.items():
            began = time.perf_counter()
            for i, piece in enumerate(model.stream(text, who, "neutral", seed)):
                if i == 0:
                    first[name].append(time.perf_counter() - began)
                length += len(piece)
            whole += time.perf_counter() - began
    said = length / model.sample_rate
    spoken = [model.speak(text, voice, "neutral", s) for s in range(rounds)]
    took = sum(
        seconds(lambda s=s: model.speak(text, voice, "neutral", s))
        for s in range(rounds)
    )
    seconds_spoken = sum(len(u.wave) for u in spoken) / model.sample_rate
    print(
        f"\nSpeaking: {seconds_spoken / took:.1f} times real time whole, "
        f"{said / whole:.1f} streamed. First audio after (median of {rounds})"
    )
    for name, each in first.items():
        print(f"  {1000 * torch.tensor(each).median():.0f} ms with {name}")


if __name__ == "__main__":
    main()
