"""Pure functions, each beside the thin PTransform that wires it."""
