"""What a translator translates between, how it is told, and how a domain is recognised."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax


@dataclasses.dataclass(frozen=True)
class Domains:
    """The D domains of images in M classes, and their codes of K numbers.

    Attributes:
        names: [D].
        of_class: [M], the domain of every class of the data.
        codes: [D][K], what translator and discriminator know a domain by.
        exclusive: whether the K are classes of which one is true (softmax), or attributes, each
            true or not (sigmoid).
    """

    names: tuple[str, ...]
    of_class: tuple[int, ...]
    codes: tuple[tuple[int, ...], ...]
    exclusive: bool

    @property
    def code_size(self) -> int:
        """K."""
        return len(self.codes[0])

    @property
    def combined(self) -> bool:
        """Whether a domain is a combination of several attributes, the bits of its number."""
        return not self.exclusive and self.code_size > 1

    def of(self, labels: jax.Array) -> jax.Array:
        """Domains [B] of labels [B] int32."""
        return jnp.asarray(self.of_class, jnp.int32)[labels]

    def code(self, domains: jax.Array) -> jax.Array:
        """Codes [B, K] float32 of domains [B]."""
        return jnp.asarray(self.codes, jnp.float32)[domains]

    def loss(self, logits: jax.Array, codes: jax.Array) -> jax.Array:
        """E[-log D_dom(c|x)] (US 11,164,021): the cross-entropy of the domains, a scalar.

        Of attributes it is the sum of their binary cross-entropies, as in the released code.

        Args:
            logits: [B, K].
            codes: [B, K].
        """
        if self.exclusive:
            return optax.softmax_cross_entropy(logits, codes).mean()
        return optax.sigmoid_binary_cross_entropy(logits, codes).sum(-1).mean()


def classes(names: Sequence[str]) -> Domains:
    """Every class is a domain."""
    count = len(names)
    codes = tuple(tuple(row) for row in np.eye(count, dtype=int).tolist())
    return Domains(tuple(names), tuple(range(count)), codes, exclusive=True)


def healthy(names: Sequence[str], which: str) -> Domains:
    """One class is the domain 0, and all others are the domain 1, told by one binary attribute.

    Raises:
        ValueError: there is no class `which`, or no other.
    """
    if which not in names or len(names) < 2:
        raise ValueError(f"there is no class {which!r} beside others: {', '.join(names)}")
    return Domains(
        (which, f"not {which}"), tuple(int(name != which) for name in names), ((0,), (1,)), False
    )


def attributes(names: Sequence[str]) -> Domains:
    """Classes that are combinations of K attributes: attribute k is bit k of the class's number.

    Raises:
        ValueError: their number is no power of two.
    """
    size = len(names).bit_length() - 1
    if size < 1 or len(names) != 2**size:
        raise ValueError(f"{len(names)} classes are not all combinations of some attributes")
    codes = tuple(tuple(number >> k & 1 for k in range(size)) for number in range(len(names)))
    return Domains(tuple(names), tuple(range(len(names))), codes, exclusive=False)
