"""Making encoders and versions; the only layer that knows torch, and only in child processes."""
