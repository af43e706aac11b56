"""Side-by-side measurements against PyTorch, each one command."""
