"""Training: the loop, its context, gathering over workers, and what is recorded. Knows no Ray."""
