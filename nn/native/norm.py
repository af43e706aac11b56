"""Group normalisation and its derivative by the compiled library: float32, on CPU.

They take the operands of `nn.norm` and return the same values. `norm.cc` says how.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from nn.norm import Form


def forward(
    form: "Form", x: jax.Array, scale: jax.Array, shift: jax.Array, *residual: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The result, like x [B, H, W, C], and the mean and reciprocal deviation, [B, C] each."""
    results = [_like(x), _like(scale), _like(scale)]
    return tuple(
        jax.ffi.ffi_call("vrn_norm_forward", results, vmap_method="sequential")(
            x,
            scale,
            shift,
            *residual,
            groups=np.int64(form.groups),
            epsilon=np.float64(form.epsilon),
            rectify=form.relu,
        )
    )


def backward(
    form: "Form",
    x: jax.Array,
    mean: jax.Array,
    inverse: jax.Array,
    scale: jax.Array,
    shift: jax.Array,
    g: jax.Array,
    *y: jax.Array,
) -> tuple[jax.Array, ...]:
    """Gradients of x, scale, shift and, where there was one, of the residual.

    They take the place of g and x in memory where nothing reads those again (else XLA copies them
    first), so that no fresh memory is cleared and fetched for them.
    """
    results = [_like(x), _like(scale), _like(shift), *map(_like, y)]
    places = {0: 0, 5: 3} if y else {5: 0}
    call = jax.ffi.ffi_call(
        "vrn_norm_backward",
        results,
        vmap_method="sequential",
        input_output_aliases=places,
    )
    return tuple(
        call(
            x,
            mean,
            inverse,
            scale,
            shift,
            g,
            *y,
            groups=np.int64(form.groups),
            rectify=form.relu,
        )
    )


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, jnp.float32)
