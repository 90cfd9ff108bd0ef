"""Fit the maps from stored K-V to the K-V of the layers above: ridge regression, no gradients, a minute or so.

Every mapped retrieval layer gets the affine map from its one or two stored layers' un-rotated [K ; V] to its own
that is best in the least-squares sense over the tokens of any text. Each window is read once, with all layers that
matter, and leaves only its moments behind: memory does not grow with the text.

Shapes: B windows, T tokens of a window, P tokens counted, F = 2 * G * D features of one token in one layer (its
keys of all heads, then its values), X = F * sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memlong.errors import Cancelled, ConfigError
from memlong.model.sources import KVMaps, features
from memlong.model.wrapper import MemoryModel

Progress = Callable[[float, str], None]
HELD_OUT_EVERY = 8  # every eighth window is not fitted, but measured


@dataclass(frozen=True)
class LayerFit:
    """How well one map fits, on windows that it was not fitted to.

    Attributes:
        layer: the retrieval layer. sources: the stored layers that it reads.
        r2_keys, r2_values: share of the variance of the layer's own keys and values that the map explains; 1 is all.
        tokens: tokens fitted. held_out_tokens: tokens measured.
    """

    layer: int
    sources: tuple[int, ...]
    r2_keys: float
    r2_values: float
    tokens: int
    held_out_tokens: int


def fit_maps(
    model: MemoryModel,
    texts: Iterable[str | Sequence[int] | Tensor],
    ridge: float = 1e-3,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[KVMaps, list[LayerFit]]:
    """Return fitted maps for every mapped layer of the model's layout, and how well they fit.

    The same texts give the same maps. Moments take about 8 * X * (X + F * layers) bytes for each different set of
    sources. A layout without maps (``own``, ``paper``) gives empty maps.

    Args:
        model: with the preset, or stored and retrieval layers, that the maps are for. Maps it has are not used.
        texts: any texts, or their token ids; cut into windows of ``window_tokens``.
        ridge: penalty on each weight, as a share of the variance of the feature it belongs to; above 0.
        progress: called after every batch with the share done and words for a person.
        cancel: asked before every batch.

    Raises:
        ConfigError: for less than two windows of text, or no penalty.
        Cancelled: when ``cancel`` said so.
    """
    if ridge <= 0:
        raise ConfigError(f"ridge={ridge}", "A number above 0", "Take a small one, such as 1e-6, for next to none")
    layout = model.layout
    maps = KVMaps(layout, model.spec.kv_heads, model.spec.head_dim)
    if not layout.mapped_layers:
        return maps, []
    targets: dict[tuple[int, ...], list[int]] = {}
    for layer in layout.mapped_layers:
        targets.setdefault(layout.sources[layer].layers, []).append(layer)
    fitted, measured = _split(_windows(model, texts))
    reader = _Reader(model, targets, len(fitted) + len(measured), progress, cancel)
    moments = {sources: _Moments() for sources in targets}
    for rows in reader.batches(fitted, "fitting"):
        for sources, layers in targets.items():
            moments[sources].add(_joined(rows, sources), _joined(rows, layers))
    for sources, layers in targets.items():
        weight, bias = moments[sources].solve(ridge)
        width = weight.shape[1] // len(layers)
        for layer, part, offset in zip(layers, weight.split(width, dim=1), bias.split(width), strict=True):
            maps.weight[str(layer)].data = part.float().contiguous()
            maps.bias[str(layer)].data = offset.float().contiguous()
    tokens = next(iter(moments.values())).count
    errors = {layer: _Errors() for layer in layout.mapped_layers}
    maps.to(model.device)
    with torch.no_grad():
        for rows in reader.batches(measured, "measuring"):
            for layer, error in errors.items():
                guess = maps.apply_map(layer, _joined(rows, layout.sources[layer].layers).float().to(model.device))
                error.add(rows[layer], guess.to(rows[layer]))
    fits = [
        LayerFit(layer, layout.sources[layer].layers, *error.explained(), tokens, error.count)
        for layer, error in errors.items()
    ]
    return maps, fits


def fit_report(fits: Sequence[LayerFit]) -> str:
    """Return a table of the fits for a terminal, a line per layer and their mean."""
    if not fits:
        return "No layer reads mapped K-V: nothing to fit."
    lines = ["layer  reads from   R2 of keys  R2 of values"]
    for fit in fits:
        sources = ", ".join(map(str, fit.sources))
        lines.append(f"{fit.layer:>5}  {sources:<11}  {fit.r2_keys:>10.3f}  {fit.r2_values:>12.3f}")
    keys, values = (sum(getattr(fit, name) for fit in fits) / len(fits) for name in ("r2_keys", "r2_values"))
    lines.append(f" mean  {'':<11}  {keys:>10.3f}  {values:>12.3f}")
    lines.append(f"{fits[0].tokens:,} tokens fitted, measured on {fits[0].held_out_tokens:,} others")
    return "\n".join(lines)


class _Moments:
    """Sums over tokens that least squares needs, in float64: of x, y, x x^T and x y^T."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, x_PX: Tensor, y_PY: Tensor) -> None:
        sums = (x_PX.sum(0), y_PY.sum(0), x_PX.T @ x_PX, x_PX.T @ y_PY)
        if not self.count:
            self.x, self.y, self.xx, self.xy = sums
        else:
            for total, part in zip((self.x, self.y, self.xx, self.xy), sums, strict=True):
                total += part
        self.count += len(x_PX)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Return weight [X, Y] and bias [Y]; the bias bears no penalty. The sums are used up."""
        mean_x, mean_y = self.x / self.count, self.y / self.count
        self.xx -= torch.outer(self.x, mean_x)
        self.xy -= torch.outer(self.x, mean_y)
        spread = self.xx.diagonal()
        # Features that never change have no variance to take a share of: they get a share of the mean one.
        floor = (1e-6 * spread.mean()).clamp(min=torch.finfo(torch.float64).tiny)
        self.xx.diagonal().add_(ridge * torch.maximum(spread.clone(), floor))
        weight = torch.cholesky_solve(self.xy, torch.linalg.cholesky(self.xx))
        return weight, mean_y - mean_x @ weight


class _Errors:
    """Sums over tokens that R2 needs, in float64: of y, y^2 and (y - guess)^2, for each feature."""

    def __init__(self) -> None:
        self.count = 0
        self.sums = torch.zeros(3, 1, dtype=torch.float64)

    def add(self, y_PF: Tensor, guess_PF: Tensor) -> None:
        self.sums = self.sums + torch.stack([y_PF, y_PF.square(), (y_PF - guess_PF).square()]).sum(1).cpu()
        self.count += len(y_PF)

    def explained(self) -> tuple[float, float]:
        """Return R2 of keys and of values."""
        y, square, wrong = self.sums
        spread = square - y.square() / self.count
        shares = []
        for part in range(2):
            total, left = (float(sums.chunk(2)[part].sum()) for sums in (spread, wrong))
            shares.append(1.0 - left / total if total > 0 else float(left == 0))
        return shares[0], shares[1]


class _Reader:
    """Reads windows in batches with every layer that is a source or a target."""

    def __init__(
        self,
        model: MemoryModel,
        targets: dict[tuple[int, ...], list[int]],
        windows: int,
        progress: Progress | None,
        cancel: Callable[[], bool] | None,
    ) -> None:
        layers = tuple(sorted({layer for pair in targets.items() for part in pair for layer in part}))
        config = model.config.replace(preset="own", stored_layers=layers, retrieval_layers=layers)
        self.model, self.layers = model.with_config(config), layers
        self.windows, self.done = windows, 0
        self.progress, self.cancel = progress, cancel
        # Double precision where the device has it in hardware; the CPU does for all others.
        self.device = model.device if model.device.type == "cuda" else torch.device("cpu")

    def batches(self, windows: Sequence[Tensor], doing: str) -> Iterator[dict[int, Tensor]]:
        """Yield layer -> [P, F] float64 of the tokens of every batch."""
        config = self.model.config
        size = max(1, config.read_batch_tokens // config.window_tokens)
        for start in range(0, len(windows), size):
            if self.cancel and self.cancel():
                raise Cancelled(f"Stopped after {self.done} of {self.windows} windows; no map was made")
            batch = windows[start : start + size]
            ids = torch.nn.utils.rnn.pad_sequence(list(batch), batch_first=True).to(self.model.device)
            lengths = torch.tensor([len(window) for window in batch], device=ids.device)
            mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
            kv = self.model.read(ids, None if bool(mask.all()) else mask.long())
            yield {
                layer: features(keys, values)[mask.flatten()].to(self.device, torch.float64)
                for layer, keys, values in zip(self.layers, kv.keys_SBGTD, kv.values_SBGTD, strict=True)
            }
            self.done += len(batch)
            if self.progress:
                self.progress(self.done / self.windows, f"{doing}: {self.done} of {self.windows} windows")


def _joined(rows: dict[int, Tensor], layers: Iterable[int]) -> Tensor:
    return torch.cat([rows[layer] for layer in layers], dim=-1)


def _windows(model: MemoryModel, texts: Iterable[str | Sequence[int] | Tensor]) -> list[Tensor]:
    windows: list[Tensor] = []
    for text in [texts] if isinstance(texts, str) else texts:
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"] if isinstance(text, str) else text
        row = torch.as_tensor(ids, dtype=torch.long).flatten().cpu()
        windows += [window for window in row.split(model.config.window_tokens) if len(window)]
    return windows


def _split(windows: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the windows to fit and those to measure on: every eighth, or the last of fewer."""
    if len(windows) < 2:
        raise ConfigError(
            f"Text of {len(windows)} window{'' if len(windows) == 1 else 's'}",
            "Two windows or more: some to fit, one to measure on",
            "Give more text; 25,000 tokens are plenty for a small model",
        )
    every = min(HELD_OUT_EVERY, len(windows))
    measured = windows[every - 1 :: every]
    return [window for index, window in enumerate(windows) if (index + 1) % every], measured
