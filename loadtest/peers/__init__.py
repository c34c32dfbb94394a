"""Peers: what others would build to take the same like, to compare with on the same machine."""
