"""The gradient of a mean over the batch: in micro-batches, on each device's rows, reduced once.

Left to itself, the partitioner reduces the gradient of every use of a parameter over the devices on
its own (real images, generated ones and the penalty: three times the bytes). Here each device first
adds up all that its own rows give, and one all-reduce follows.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from nn.native import conv as native

AXIS = "data"  # the axis of the mesh over which rows are divided
Loss = Callable[[Any, Any, Any], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class Gradient:
    """How gradients are taken; every setting gives the same ones up to rounding.

    Attributes:
      accumulate: micro-batches per gradient: activations of one are held at a time.
      remat: keep only the results of convolutions and matrix products for the backward pass and
        compute the rest again.
      mesh: devices whose axis `data` divides the rows; None is one device.
    """

    accumulate: int = 1
    remat: bool = False
    mesh: Mesh | None = None

    def __post_init__(self):
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}: give at least 1")

    @property
    def shares(self) -> int:
        """Into how many equal parts a batch is divided."""
        return self.accumulate * self._devices

    @property
    def _devices(self) -> int:
        return 1 if self.mesh is None else self.mesh.shape[AXIS]

    def __call__(self, loss: Loss, params: Any, fixed: Any, rows: Any) -> tuple[Any, Any]:
        """Differentiates a loss that is a mean over rows.

        Args:
          loss: `(params, fixed, rows) -> (scalar, metrics)`; scalar and metrics are means over the
            rows they are given, and no row's term depends on another row.
          params: pytree to differentiate by.
          fixed: pytree of whatever else the loss reads, the same for all rows.
          rows: pytree of arrays [B, ...], random draws included: what is drawn inside the loss
            would depend on the division.

        Returns:
          Gradient and metrics of the mean over all B rows.

        Raises:
          ValueError: if B is no multiple of `shares`.
        """
        batch = len(jax.tree.leaves(rows)[0])
        if batch % self.shares:
            raise ValueError(
                f"a batch of {batch} can't be divided by {self._devices} devices x "
                f"{self.accumulate} micro-batches"
            )
        if self._devices == 1:
            return self._local(loss, params, fixed, rows)
        whole, divided = PartitionSpec(), PartitionSpec(AXIS)
        return jax.shard_map(
            lambda *inputs: self._mean(self._local(loss, *inputs)),
            mesh=self.mesh,
            in_specs=(whole, whole, divided),
            out_specs=whole,
            axis_names={AXIS},
            # Checked, every use of a parameter would be reduced on its own again.
            check_vma=False,
        )(params, fixed, rows)

    def remembering(self, loss: Loss) -> Loss:
        """The loss, told what to keep for its backward pass."""
        return jax.checkpoint(loss, policy=is_product) if self.remat else loss

    def _mean(self, tree: Any) -> Any:
        """The mean over the devices, of arrays of which each device has its own.

        XLA joins the arrays of a tree into one message on GPU and TPU. Between processes on CPU it
        sends one after the other and waits for each, which costs more than the bytes do; there they
        are joined here.
        """
        devices = self.mesh.devices.flat
        if devices[0].platform != "cpu" or len({one.process_index for one in devices}) == 1:
            return lax.pmean(tree, AXIS)
        leaves, structure = jax.tree.flatten(tree)
        for dtype in {leaf.dtype: None for leaf in leaves}:  # in an order that all processes share
            chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == dtype]
            flat = lax.pmean(jnp.concatenate([leaves[i].ravel() for i in chosen]), AXIS)
            ends = list(itertools.accumulate(leaves[i].size for i in chosen))
            for i, part in zip(chosen, jnp.split(flat, ends[:-1]), strict=True):
                leaves[i] = part.reshape(leaves[i].shape)
        return jax.tree.unflatten(structure, leaves)

    def _of_rows(self, loss: Loss) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
        """Gradient and metrics of the loss, as a function of its arguments."""
        if not (self.remat and jax.default_backend() == "cpu"):
            return jax.grad(loss, has_aux=True)

        def gradient(params: Any, fixed: Any, rows: Any) -> tuple[Any, Any]:
            value, pullback, metrics = jax.vjp(
                lambda params: loss(params, fixed, rows), params, has_aux=True
            )
            return _after(value, pullback)(jnp.ones_like(value))[0], metrics

        return gradient

    def _local(self, loss: Loss, params: Any, fixed: Any, rows: Any) -> tuple[Any, Any]:
        """The same for the rows of one device."""
        gradient = self._of_rows(self.remembering(loss))
        if self.accumulate == 1:
            return gradient(params, fixed, rows)
        count = self.accumulate
        parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), rows)
        shapes = jax.eval_shape(gradient, params, fixed, jax.tree.map(lambda leaf: leaf[0], parts))

        def add(total, part):
            part = _after(total, part)
            return jax.tree.map(jnp.add, total, gradient(params, fixed, part)), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        # A convolution in a rolled loop is some 70 times slower on CPU.
        unroll = count if jax.default_backend() == "cpu" else 1
        total, _ = lax.scan(add, zeros, parts, unroll=unroll)
        return jax.tree.map(lambda leaf: leaf / count, total)


PLAIN = Gradient()


def _after(first: Any, then: Any) -> Any:
    """`then`, but what follows from it is computed once `first` is known.

    XLA's CPU backend drops optimisation barriers. Without them unrolled micro-batches, which depend
    on each other by their sum alone, hold the activations of all at once, and what the backward
    pass is to compute again is found to be known already, and held. No compiler may take a float
    times zero for zero.
    """
    token = 0 * sum(leaf.ravel()[0] for leaf in jax.tree.leaves(first))
    return jax.tree.map(
        lambda leaf: (
            leaf + token.astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        ),
        then,
    )


def is_product(primitive: Any, *_: Any, **params: Any) -> bool:
    """Whether it is a convolution or a product of matrices: what rematerialisation keeps."""
    named = primitive.name in ("conv_general_dilated", "dot_general")
    return named or params.get("target_name") in native.TARGETS
