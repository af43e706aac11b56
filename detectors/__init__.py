"""What the translator is compared with in finding disease: other ways to a map of it."""
