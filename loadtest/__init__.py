"""Load, measured: generators, peers and reports. Knows the service only through HTTP."""
