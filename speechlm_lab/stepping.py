"""A Transformer one step at a time, in NumPy: the same numbers, several times sooner.

A step of a small model is a few million multiplications, a matter of a millisecond.
PyTorch needs some microseconds to begin each of its two hundred operations, and its
matrix products are made for many rows, where here there are one or two. NumPy begins
an operation sooner, and takes a product of a matrix and a vector for what it is.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import expit
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from speechlm_lab.transformer import KVCache, Layer, LMConfig, rotations

_FEW = 6  # rows up to which a product is faster row by row
_blas = ThreadpoolController().select(user_api="blas").lib_controllers


def _one_thread(call: Callable) -> Callable:
    """`call`, with one thread for NumPy's products.

    A second thread gains little in so small a product, and where another program has
    its core the first one waits for it, a hundred times longer than the product takes.
    (What `ThreadpoolController.wrap` does, in a quarter of its time.)
    """

    @functools.wraps(call)
    def alone(*args, **kwargs):
        before = [library.get_num_threads() for library in _blas]
        for library in _blas:
            library.set_num_threads(1)
        try:
            return call(*args, **kwargs)
        finally:
            for library, threads in zip(_blas, before, strict=True):
                library.set_num_threads(threads)

    return alone


class Trunk:
    """Layers and the norm after them, in NumPy: `[B, D]` in, `[B, D]` out, each step.

    It goes on from what `caches`, one a layer, have seen, and leaves them as they are;
    None: from nothing. Setting `at` to 0 begins anew. Weights are read where they are,
    in float32 on the CPU.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        norm: nn.RMSNorm,
        config: LMConfig,
        caches: Sequence[KVCache] | None = None,
        room: int = 256,  # steps for which there is room at once, and then again
    ) -> None:
        self.width, self.base = config.width // config.heads, config.rope_base
        self.at = 0 if caches is None else len(caches[0])  # steps seen
        each = [None] * len(layers) if caches is None else caches
        self.layers = [_Layer(*p, room) for p in zip(layers, each, strict=True)]
        self.room = room
        self.norm = array(norm)
        # queries are scaled as they are turned, keys are not
        heads, keys = self.layers[0].heads, self.layers[0].kv_heads
        scales = [self.width**-0.5] * heads + [1.0] * keys
        self.scales = np.array(scales, dtype=np.float32)[:, None]
        self._turn(self.at + room)

    @_one_thread
    def __call__(self, x: np.ndarray, position: int | None = None) -> np.ndarray:
        """What is made of one more step, at `position`; None: it is counted."""
        position = self.at if position is None else position
        if position >= len(self.cosines):
            self._turn(position + self.room)
        turn = self.cosines[position] * self.scales, self.sines[position] * self.scales
        for layer in self.layers:
            x = layer(x, turn, self.at)
        self.at += 1
        return _normed(x, self.norm)

    def _turn(self, steps: int) -> None:
        turn = rotations(0, steps, self.width, self.base)
        self.cosines, self.sines = (part.numpy() for part in turn)


class Stepper:
    """A `lm.LanguageModel` that goes on, step after step, from what `caches` hold."""

    def __init__(self, model: nn.Module, caches: Sequence[KVCache]) -> None:
        self.codes = [array(e) for e in model.embeddings]
        self.heads = [array(head) for head in model.heads]
        if model.config.texts:
            self.texts = [array(e) for e in model.text_embeddings]
            self.text_head = array(model.text_head)
        if model.config.roles:
            self.roles = array(model.role_embedding)
        self.trunk = Trunk(model.layers, model.norm, model.config, caches)

    def __call__(
        self,
        codes: Tensor,
        text: Tensor | None = None,
        role: int | None = None,
        position: int | None = None,
    ) -> Tensor:
        """`LanguageModel.hidden` of one more step: `[B, D]`.

        codes: int64 `[B, K]`.
        text: int64 `[B, 5]`, see `layout.TextSlots`; None: no text.
        role: what the step is, the same in all rows; None: no role.
        position: that of the step; None: it is counted.
        """
        x = _embedded(self.codes, codes)
        if text is not None:
            x = x + _embedded(self.texts, text)
        if role is not None:
            x = x + self.roles[role]
        return torch.from_numpy(self.trunk(x, position))

    @_one_thread
    def logits(self, hidden: Tensor, levels: Sequence[int] | None = None) -> Tensor:
        """Logits `[B, K, V]` of the codes after `hidden` `[B, D]`; None: all levels."""
        levels, x = range(len(self.heads)) if levels is None else levels, hidden.numpy()
        found = np.empty((len(x), len(levels), len(self.heads[0])), dtype=np.float32)
        for i, k in enumerate(levels):
            found[:, i] = product(x, self.heads[k])
        return torch.from_numpy(found)

    @_one_thread
    def text_logits(self, hidden: Tensor) -> Tensor:
        """Logits `[B, TEXTS]` of the text token after `hidden` `[B, D]`."""
        return torch.from_numpy(product(hidden.numpy(), self.text_head))


class Codebooks:
    """The vectors `[K, V, D]` of codes, asked at each step about the next levels."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors.detach().numpy()
        self.energies = np.square(self.vectors).sum(-1) / 2  # [K, V]

    @_one_thread
    def means(self, logits: Tensor, first: int = 0) -> Tensor:
        """The mean `[k, D]` of the vectors under the odds `logits` `[k, V]`.

        The k levels begin with `first`. Of all vectors a mean is the one with the least
        expected squared distance to that of the code that would be drawn.
        """
        odds, last = logits.softmax(-1).numpy(), first + len(logits)
        return torch.from_numpy(np.vecmat(odds, self.vectors[first:last]))

    @_one_thread
    def nearest(self, vectors: Tensor, first: int = 0) -> Tensor:
        """For each of `vectors` `[k, D]` the nearest code `[k]` of its level.

        |v - c|^2 = |v|^2 - 2 (v c - |c|^2 / 2), so it is the one with the most in the
        bracket.
        """
        part = slice(first, first + len(vectors))
        alike = np.matvec(self.vectors[part], vectors.numpy()) - self.energies[part]
        return torch.from_numpy(alike.argmax(-1))


class _Layer:
    """`transformer.Layer` for one step."""

    def __init__(self, layer: Layer, cache: KVCache | None, room: int) -> None:
        attention, forward = layer.attention, layer.feed_forward
        self.heads, self.kv_heads = attention.heads, attention.kv_heads
        self.norms = array(layer.attention_norm), array(layer.feed_forward_norm)
        self.qkv, self.out = array(attention.qkv), array(attention.out)
        self.gate, self.up = array(forward.gate), array(forward.up)
        self.down = array(forward.down)
        self.room = room
        self.keys = self.values = None  # [B, kv_heads, steps seen and room, d]
        if cache is not None and len(cache):
            self.keys = _with_room(cache.keys.cpu().numpy(), room)
            self.values = _with_room(cache.values.cpu().numpy(), room)

    def __call__(self, x: np.ndarray, turn: tuple, at: int) -> np.ndarray:
        x = x + product(self._attention(_normed(x, self.norms[0]), turn, at), self.out)
        y = _normed(x, self.norms[1])
        gate = product(y, self.gate)
        return x + product(gate * expit(gate) * product(y, self.up), self.down)

    def _attention(self, x: np.ndarray, turn: tuple, at: int) -> np.ndarray:
        cosines, sines = turn  # [heads + kv_heads, d]
        width, half = cosines.shape[1], cosines.shape[1] // 2
        split = product(x, self.qkv).reshape(len(x), -1, width)
        turned, values = split[:, : -self.kv_heads], split[:, -self.kv_heads :]
        partner = np.concatenate([turned[..., half:], turned[..., :half]], axis=-1)
        turned = turned * cosines + partner * sines  # as in `transformer.rotate`
        self._remember(turned[:, self.heads :], values, at)
        # the heads of queries beside the head of keys that they share
        queries = turned[:, : self.heads].reshape(*values.shape[:2], -1, width)
        weights = queries @ self.keys[:, :, : at + 1].swapaxes(2, 3)
        weights -= np.maximum.reduce(weights, axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= np.add.reduce(weights, axis=-1, keepdims=True)
        return (weights @ self.values[:, :, : at + 1]).reshape(len(x), -1)

    def _remember(self, keys: np.ndarray, values: np.ndarray, at: int) -> None:
        if self.keys is None:
            self.keys = _with_room(keys[:, :, None][:, :, :0], self.room)
            self.values = _with_room(values[:, :, None][:, :, :0], self.room)
        elif at == self.keys.shape[2]:
            self.keys = _with_room(self.keys, self.room)
            self.values = _with_room(self.values, self.room)
        self.keys[:, :, at], self.values[:, :, at] = keys, values


def array(module: nn.Module) -> np.ndarray:
    """The weight of a module; not copied if it is float32 on the CPU."""
    return module.weight.detach().float().cpu().numpy()


def product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`x` `[B, in]` by a weight `[out, in]`: `[B, out]`."""
    if len(x) > _FEW:
        return x @ weight.T
    return np.matvec(weight, x)


def _embedded(tables: Sequence[np.ndarray], ids: Tensor) -> np.ndarray:
    """Sum over the tables of their rows `ids` int64 `[B, tables]`: `[B, D]`."""
    columns = ids.numpy().T
    return sum(table[i] for table, i in zip(tables, columns, strict=True))


def _with_room(seen: np.ndarray, room: int) -> np.ndarray:
    """`seen` `[B, kv_heads, S, d]` with room for more steps."""
    rows, heads, steps, width = seen.shape
    found = np.empty((rows, heads, steps + room, width), dtype=seen.dtype)
    found[:, :, :steps] = seen
    return found


def _normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """RMSNorm of `x` `[B, D]`."""
    found = np.empty_like(x)
    for row, into in zip(x, found, strict=True):
        size = math.sqrt(float(row.dot(row)) / len(row) + 1e-6)
        np.divide(row, size, out=into)
    found *= weight
    return found
