"""The servers of the service, real ones, on loopback: one module each."""
