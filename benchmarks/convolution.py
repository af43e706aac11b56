"""Milliseconds of every map of a convolution, by the forms we have and in PyTorch.

    python -m benchmarks.convolution [--rows=REGEX] [--repeats=N]

A convolution's forward map F, input gradient T and filter gradient W cost the same number of
floating-point operations; a map that takes longer than the other two, or than PyTorch, is the one
that a training step waits for. `ours` is what `nn.conv` chooses on this machine, `xla` the plain
XLA convolution, `torch` PyTorch's (left empty where it is not installed). The last columns are the
share of the machine's matrix-product rate, measured in the same run, that ours reaches.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import options
from benchmarks.train_step import measure
from nn import conv, host

try:
    import torch
except ImportError:
    torch = None

FLAGS = flags.FlagValues()
_ROWS = flags.DEFINE_string(
    "rows", "", "Measure only rows whose name matches this regex.", flag_values=FLAGS
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "Rounds; each times every form in turn.", 1, flag_values=FLAGS
)

_BATCHES = {2: 64, 3: 4}  # by the number of axes
# (size, channels in, channels out, kernel, stride): the layers of a DCGAN of width 32 at 64 px, of
# residual networks of width 16 to 64, and of a bottleneck.
_LAYERS = (
    (64, 1, 32, 4, 2), (32, 32, 64, 4, 2), (16, 64, 128, 4, 2), (8, 128, 256, 4, 2),
    (32, 16, 16, 3, 1), (64, 32, 32, 3, 1), (32, 32, 32, 3, 1), (32, 64, 64, 3, 1),
    (16, 128, 128, 3, 1), (8, 256, 256, 3, 1), (32, 64, 128, 3, 2),
    (32, 64, 16, 1, 1), (32, 16, 64, 1, 1),
)  # fmt: skip
# Those of a translator of volumes of width 8: its first, one of its blocks, and two that halve.
_VOLUMES = ((16, 2, 8, 7, 1), (8, 32, 32, 3, 1), (32, 1, 8, 4, 2), (16, 8, 16, 4, 2))


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution: square or cubic, and padded so that only the stride makes smaller images."""

    size: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    axes: int = 2

    @property
    def batch(self) -> int:
        """Images or volumes."""
        return _BATCHES[self.axes]

    @property
    def name(self) -> str:
        """A name to filter by."""
        size = f"{self.size}px" if self.axes == 2 else f"{self.size}px_volume"
        return f"{size}_{self.inputs}to{self.outputs}_k{self.kernel}s{self.stride}"

    @property
    def padding(self) -> int:
        """On every side."""
        return (self.kernel - 1) // 2

    @property
    def geometry(self) -> conv.Geometry:
        """As `nn.conv` has it."""
        numbers = (self.size, self.kernel, self.stride, (self.padding,) * 2)
        return conv.Geometry(*((number,) * self.axes for number in numbers))

    @property
    def flops(self) -> float:
        """Floating-point operations of each map, the same for all three."""
        return (
            2.0
            * self.batch
            * np.prod(self.geometry.out_size)
            * (self.kernel**self.axes * self.inputs * self.outputs)
        )


class _Jax:
    """A compiled map as a side to be timed."""

    def __init__(self, fn: Callable[..., jax.Array], layer: Layer, *operands: np.ndarray):
        self._operands = [jax.device_put(operand) for operand in operands]
        self._fn = jax.jit(functools.partial(fn, layer.geometry))
        self._last = self._fn(*self._operands)

    def take(self) -> None:
        self._last = self._fn(*self._operands)

    def wait(self) -> None:
        jax.block_until_ready(self._last)

    def value(self) -> np.ndarray:
        return np.asarray(self._last)


class _Torch:
    """PyTorch's map as a side to be timed; on CPU it is done when it returns."""

    def __init__(self, which: str, layer: Layer, x: np.ndarray, w: np.ndarray, y: np.ndarray):
        device = "cuda" if jax.devices()[0].platform == "gpu" else "cpu"
        x, y = (torch.tensor(a).movedim(-1, 1).contiguous().to(device) for a in (x, y))
        w = torch.tensor(w).movedim((-1, -2), (0, 1)).contiguous().to(device)
        stride, padding = [layer.stride] * layer.axes, [layer.padding] * layer.axes
        if which == "F":
            forward = getattr(torch.nn.functional, f"conv{layer.axes}d")
            self._fn = lambda: forward(x, w, None, stride, padding)
        else:
            wanted = [which == "T", which == "W", False]
            self._fn = lambda: torch.ops.aten.convolution_backward(
                y, x, w, [0], stride, padding, [1] * layer.axes, False, [0] * layer.axes, 1, wanted
            )

    def take(self) -> None:
        with torch.no_grad():
            self._fn()

    def wait(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def measure_layer(layer: Layer, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the maps 'F', 'T' and 'W' by 'ours', 'xla' and, if installed, 'torch'.

    Raises:
        RuntimeError: ours is not what XLA's own convolution gives.
    """
    rng = np.random.default_rng(0)
    geometry = layer.geometry
    x = rng.standard_normal((layer.batch, *geometry.size, layer.inputs)).astype(np.float32)
    w = rng.standard_normal((*geometry.kernel, layer.inputs, layer.outputs)).astype(np.float32)
    y = rng.standard_normal((layer.batch, *geometry.out_size, layer.outputs)).astype(np.float32)
    forms = {
        "F": (conv.forward, conv._forward_plain, (x, w)),
        "T": (conv.input_gradient, conv._input_gradient_plain, (y, w)),
        "W": (conv.filter_gradient, conv._filter_gradient_plain, (x, y)),
    }
    times = {}
    for which, (ours, plain, operands) in forms.items():
        sides = {"ours": _Jax(ours, layer, *operands), "xla": _Jax(plain, layer, *operands)}
        mine, reference = sides["ours"].value(), sides["xla"].value()
        error = np.abs(mine - reference).max() / np.abs(reference).max()
        if error > 1e-4:
            raise RuntimeError(f"{layer.name}: {which} is {error:.1e} from XLA's")
        if torch is not None:
            sides["torch"] = _Torch(which, layer, x, w, y)
        times[which] = measure.median(measure.interleaved(sides, repeats, 2))
    return times


def main(argv: Sequence[str]) -> None:
    """Measures the layers asked for and prints them as they come."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    host.prepare()
    rate = measure.matmul_rate(jnp.float32)
    sizes = f"batch {_BATCHES[2]}, of volumes {_BATCHES[3]}"
    print(f"jax {jax.__version__} on {jax.devices()[0]}, {sizes}, float32, ms")
    print(f"matrix product: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':28}" + "".join(f"{m:>4}: ours    xla  torch" for m in "FTW") + "   % peak F, T, W")
    volumes = [Layer(*numbers, axes=3) for numbers in _VOLUMES]
    for layer in [*(Layer(*numbers) for numbers in _LAYERS), *volumes]:
        if not re.search(_ROWS.value, layer.name):
            continue
        times = measure_layer(layer, _REPEATS.value)
        cells = "".join(
            "   " + "".join(f"{t.get(s, float('nan')):7.1f}" for s in ("ours", "xla", "torch"))
            for t in times.values()
        )
        shares = [100 * layer.flops / (t["ours"] / 1e3) / rate for t in times.values()]
        print(f"{layer.name:28}{cells}   " + " ".join(f"{s:5.0f}" for s in shares), flush=True)


if __name__ == "__main__":
    options.run(main, FLAGS)
