"""The published networks in PyTorch (github yunjey/stargan, mahfuzmohammad/Fixed-Point-GAN).

Written from their description, for any number of channels and for images or volumes; `copied` gives
them the weights of ours.
"""

import numpy as np
import torch
from torch import nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Residual(nn.Module):
    def __init__(self, channels, axes):
        super().__init__()
        norm = lambda: NORM[axes](channels, affine=True)  # noqa: E731
        conv = lambda: CONV[axes](channels, channels, 3, 1, 1, bias=False)  # noqa: E731
        self.main = nn.Sequential(conv(), norm(), nn.ReLU(), conv(), norm())

    def forward(self, x):
        return x + self.main(x)


class Generator(nn.Module):
    """Everything up to the last convolution."""

    def __init__(self, channels, code_size, width, blocks, results, axes):
        super().__init__()

        def block(layer, inputs, outputs, *sizes):
            conv = layer[axes](inputs, outputs, *sizes, bias=False)
            return [conv, NORM[axes](outputs, affine=True), nn.ReLU()]

        layers = block(CONV, channels + code_size, width, 7, 1, 3)
        for inputs in (width, 2 * width):
            layers += block(CONV, inputs, 2 * inputs, 4, 2, 1)
        layers += [Residual(4 * width, axes) for _ in range(blocks)]
        for inputs in (4 * width, 2 * width):
            layers += block(UP, inputs, inputs // 2, 4, 2, 1)
        layers += [CONV[axes](width, results, 7, 1, 3, bias=False)]
        self.main = nn.Sequential(*layers)

    def forward(self, x, codes):
        planes = codes.view(*codes.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return self.main(torch.cat([x, planes], 1))


class Discriminator(nn.Module):
    def __init__(self, size, channels, code_size, width, halvings, axes):
        super().__init__()
        layers = []
        for index in range(halvings):
            inputs = width * 2 ** (index - 1) if index else channels
            layers += [CONV[axes](inputs, width * 2**index, 4, 2, 1), nn.LeakyReLU(0.01)]
        last, rest = width * 2 ** (halvings - 1), tuple(n // 2**halvings for n in size)
        self.main = nn.Sequential(*layers)
        self.realness = CONV[axes](last, 1, 3, 1, 1, bias=False)
        self.domain = CONV[axes](last, code_size, rest, bias=False)

    def forward(self, x):
        h = self.main(x)
        return self.realness(h)[:, 0], self.domain(h).flatten(1)


def first(images):
    """[B, *S, C] to [B, C, *S]."""
    return torch.from_numpy(np.moveaxis(np.asarray(images, np.float64), -1, 1).copy())


def copied(module, params):
    """The module in float64 with the weights of our network, layer by layer in their order."""
    module = module.double()

    def put(parameter, values):
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.array(values, np.float64)))

    def numbered(kind, names=()):
        count = sum(name.startswith(f"{kind}_") for name in params)
        return iter([params[f"{kind}_{i}"] for i in range(count)])

    def put_conv(layer, given):
        kernel = np.asarray(given["kernel"])
        axes = kernel.ndim - 2
        put(layer.weight, kernel.transpose(axes + 1, axes, *range(axes)))
        if "bias" in given:
            put(layer.bias, given["bias"])

    convs, ups, norms = (numbered(kind) for kind in ("Conv", "ConvTranspose", "GroupNorm"))
    for layer in module.main.modules():
        if isinstance(layer, tuple(CONV.values())):
            if layer is module.main[0] and "from_image" in params:
                put_conv(layer, params["from_image"])
            elif layer is module.main[-1]:
                put_conv(layer, params["to_image"])
            else:
                put_conv(layer, next(convs))
        elif isinstance(layer, tuple(UP.values())):
            put_conv(layer, next(ups))
        elif isinstance(layer, tuple(NORM.values())):
            given = next(norms)
            put(layer.weight, given["scale"])
            put(layer.bias, given["shift"])
    if isinstance(module, Discriminator):
        put_conv(module.realness, params["realness"])
        # Our head is a product with rows in the order of places, then channels.
        target = module.domain.weight
        kernel = np.asarray(params["domain"]["kernel"]).reshape(*target.shape[2:], -1, len(target))
        put(target, np.moveaxis(kernel, (-1, -2), (0, 1)))
    return module
