"""How many floating-point operations a step needs, counted from the layers' shapes.

A multiplication and an addition are two operations; only convolutions and dense layers count. A
compiler's own count is of the form it chose, which may do more (padded kernels, recomputation), so
this one is the measure of both sides and that one is kept beside it.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.train_step import rows
from benchmarks.train_step.ours import Work
from nn.conv import Conv, ConvTranspose
from nn.rectified import RectifiedConv

_LAYERS = (Conv, ConvTranspose, RectifiedConv, nn.Dense)


class Products(NamedTuple):
    """Multiplications of one pass through a network.

    Attributes:
        every: of all layers.
        first: of the layers that read the network's input, whose gradient is seldom needed.
    """

    every: int
    first: int


def products(module: nn.Module, *inputs: jax.ShapeDtypeStruct, joined: int = 0) -> Products:
    """Counts a network's forward pass on inputs of these shapes.

    Args:
        module: the network.
        inputs: of it; its first layers read the first one.
        joined: channels that are joined to that one before.
    """
    every = first = 0
    entry = (*inputs[0].shape[:-1], inputs[0].shape[-1] + joined)

    def count(run: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal every, first
        result, layer = run(*args, **kwargs), context.module
        if context.method_name != "__call__" or not isinstance(layer, _LAYERS):
            return result
        read, places = _places(layer, args[0], result)
        here = read[-1] * layer.features * places
        here *= 1 if isinstance(layer, nn.Dense) else layer.kernel**2
        every += here
        first += here if (len(read), read[-1]) == (len(entry), entry[-1]) else 0
        return result

    with nn.intercept_methods(count):
        jax.eval_shape(lambda *args: module.init(jax.random.key(0), *args), *inputs)
    return Products(every, first)


def _places(layer: nn.Module, given: Any, result: Any) -> tuple[tuple[int, ...], int]:
    """The shape that a layer reads, and at how many places it multiplies."""
    if isinstance(layer, RectifiedConv):
        return given, given[0] * math.prod(result[0].out_size)
    y = result[0] if isinstance(result, tuple) else result  # of a fork
    # A transposed convolution multiplies at the places of its input.
    shape = given.shape if isinstance(layer, ConvTranspose) else y.shape
    return given.shape, math.prod(shape[:-1])


def needed(work: Work) -> int:
    """Floating-point operations of one training step."""
    row = work.row
    images = jax.ShapeDtypeStruct((row.batch, row.size, row.size, rows.CHANNELS), jnp.float32)
    if row.kind in rows.CLASSIFIERS:
        prepared = jax.eval_shape(lambda x: work.spec.prepare(x, None), images)
        net = products(work.spec.model, prepared)
        # Forward, and the gradients of the weights and of all inputs but the images.
        return 2 * (3 * net.every - net.first)
    fixed_point = row.kind in rows.TRANSLATORS
    if fixed_point:
        code = jax.ShapeDtypeStruct((row.batch, work.spec.domains.code_size), jnp.float32)
        g = products(work.spec.translator, images, code, joined=code.shape[1])
        d = products(work.spec.discriminator, images)
    else:
        labels = jax.ShapeDtypeStruct((row.batch,), jnp.int32)
        z = jax.ShapeDtypeStruct((row.batch, rows.LATENT), jnp.float32)
        g = products(work.spec.generator, z, labels)
        d = products(work.spec.discriminator, images, labels)
    update = g.every + 2 * (3 * d.every - d.first)  # on real and on generated images
    if fixed_point or work.spec.penalty == "gp":
        # Forward and gradient at the mixed images, then that gradient's own derivatives, by its
        # cotangents and by the weights. Nothing flows back through the ReLUs' kinks.
        update += 4 * d.every
    last = 3 * g.every - g.first + 2 * d.every
    if fixed_point:
        # Every image is translated to two domains, and both translations back to its own.
        last = 2 * (last + 3 * g.every)
    return 2 * (work.spec.n_critic * update + last)
