"""Getting the service to run: the `dianzan` program, and everything on one machine."""
