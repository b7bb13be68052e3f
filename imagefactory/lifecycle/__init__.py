"""Which release is in which stage where, and why."""
