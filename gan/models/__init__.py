"""Generators and discriminators."""

from gan.models import dcgan, resnet_gan

MODELS = {"dcgan": dcgan, "resnet": resnet_gan}
