"""Calls of this package's function libraries in the store, each loaded when it is first missed."""

from collections.abc import Awaitable
from typing import Any, cast

import redis.asyncio as redis
from redis.exceptions import ResponseError


async def call_loaded(valkey: redis.Redis, library: str, *words: str | int | bytes) -> Any:
    """FCALL with these words; the library is loaded where the store does not know the function: it
    began anew, or we are the first. Raises redis' errors."""
    try:
        return await _call(valkey, *words)
    except ResponseError as why:
        if "Function not found" not in str(why):
            raise
    try:
        await cast(Awaitable[Any], valkey.function_load(library))
    except ResponseError as why:
        # Another process was faster.
        if "already exists" not in str(why):
            raise
    return await _call(valkey, *words)


async def _call(valkey: redis.Redis, *words: str | int | bytes) -> Any:
    # Through a cast: redis-py says that a function answers with text.
    return await cast(Any, valkey).execute_command("FCALL", *words)
