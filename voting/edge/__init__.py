"""The public edge: aiohttp over uvloop, one process per core."""
