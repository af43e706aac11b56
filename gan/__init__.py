"""Class-conditional generative adversarial networks: models, losses, steps and sampling."""
