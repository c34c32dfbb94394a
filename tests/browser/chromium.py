"""Debian's Chromium under Playwright, for tests that need a real browser."""

import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("/usr/bin/chromium", "chromium", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

_ARGUMENTS = [
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""What a person may look at after the tests."""


def _arguments() -> list[str]:
    return [*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


@contextlib.asynccontextmanager
async def chromium(*, back_forward_cache: bool = False) -> AsyncIterator[Browser]:
    # Playwright switches the cache off, where a person's browser has it.
    unlike_usual = ["--disable-back-forward-cache"] if back_forward_cache else None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=_arguments(), ignore_default_args=unlike_usual
        )
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def profile_of(folder: Path, preferences: dict[str, Any]) -> AsyncIterator[BrowserContext]:
    """A browser of its own, whose user has changed its settings: `preferences` is what Chromium
    would have written into an empty folder."""
    (folder / "Default").mkdir()
    (folder / "Default" / "Preferences").write_text(json.dumps(preferences), encoding="utf-8")
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            folder, executable_path=CHROMIUM, args=_arguments(), locale="zh-CN"
        )
        try:
            context.set_default_timeout(15_000)
            yield context
        finally:
            await context.close()


class Watched:
    """A page, and whatever it complained of."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def own_complaints(self) -> list[str]:
        """Those that are not the browser's own note of a failed request, which no page can
        silence."""
        return [text for text in self.complaints if not text.startswith("Failed to load resource")]


@contextlib.asynccontextmanager
async def watched(browser: Browser, width: int = 375, height: int = 812, **options):
    """A fresh browser profile with one page; what violates the page's policy, throws or is
    rejected lands in `complaints`."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, locale="zh-CN", **options
    )
    context.set_default_timeout(15_000)
    try:
        yield Watched(context, await context.new_page())
    finally:
        await context.close()
