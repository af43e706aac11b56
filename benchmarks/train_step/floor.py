"""The products of a step alone: what it would take if all else were free.

Every convolution and matrix product of our step, in the forms it has there, on operands of its own,
compiled as one program with nothing between them. It estimates the least
that a step of these products takes, no more: a step finds some operands in the cache.
"""

from collections.abc import Iterator

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn
from jax.interpreters import partial_eval

from benchmarks.train_step import ours
from nn.gradient import is_product

_FACTORS = 2


def products(work: ours.Work) -> list[JaxprEqn]:
    """The convolutions and matrix products of the step on CPU, each as often as it takes them."""
    closed = jax.make_jaxpr(ours.train_step(work))(work.state, work.batch, work.key)
    return list(_walk(closed.jaxpr))


def _walk(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
    for eqn in live.eqns:
        if is_product(eqn.primitive, **eqn.params):
            yield _alone(eqn)
        elif eqn.primitive.name == "cond":  # a choice by platform, in which that for CPU is first
            yield from _walk(eqn.params["branches"][0].jaxpr)
        else:
            for inner in jax.extend.core.jaxprs_in_params(eqn.params):
                for _ in range(eqn.params.get("length", 1)):  # of a scan
                    yield from _walk(inner)


def _alone(eqn: JaxprEqn) -> JaxprEqn:
    """The product without what it does in its pass beside multiplying (`nn.native.conv`)."""
    if len(eqn.invars) == _FACTORS:
        return eqn
    layouts = eqn.params["input_layouts"]
    said = ((name, "" if name == "third" else value) for name, value in eqn.params["attributes"])
    params = eqn.params | {
        "attributes": tuple(said),
        "input_output_aliases": (),
        "input_layouts": None if layouts is None else layouts[:_FACTORS],
    }
    return eqn.replace(invars=eqn.invars[:_FACTORS], params=params)


class Side:
    """Runs the products one after the other."""

    def __init__(self, work: ours.Work):
        equations = products(work)

        @jax.jit
        def run(arrays: list[list[jax.Array]]) -> list[jax.Array]:
            done = [
                eqn.primitive.bind(*inputs, **eqn.params)
                for eqn, inputs in zip(equations, arrays, strict=True)
            ]
            # The rest is scratch memory; a call of the compiled library gives its own beside it.
            results = [one[0] if isinstance(one, list) else one for one in done]
            return [product[(0,) * product.ndim] for product in results]

        # Equal products of equal operands would be taken once.
        self._arrays = [
            [jax.device_put(np.ones(var.aval.shape, var.aval.dtype)) for var in eqn.invars]
            for eqn in equations
        ]
        self._run = run.lower(self._arrays).compile()
        self._last = self._run(self._arrays)

    def take(self) -> list[jax.Array]:
        """Starts all products."""
        self._last = self._run(self._arrays)
        return self._last

    def wait(self) -> None:
        """Until they are done."""
        jax.block_until_ready(self._last)
