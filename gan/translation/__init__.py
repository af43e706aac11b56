"""Translation of images between domains: Fixed-Point GAN, and StarGAN as a case of it."""
