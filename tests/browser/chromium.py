"""Debian's Chromium under Playwright, for tests that need a real browser."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator

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


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    arguments = [*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


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
