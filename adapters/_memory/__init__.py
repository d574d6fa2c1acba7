"""How memory that was filled here becomes a framework's own, without a copy: what several adapters need."""
