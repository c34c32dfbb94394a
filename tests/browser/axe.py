"""axe-core on a page: what it finds against the rules of accessibility."""

from pathlib import Path

import pytest
from playwright.async_api import Page

NODE_MODULES = Path(__file__).parent / "node_modules"
_AXE = NODE_MODULES / "axe-core" / "axe.min.js"

needs_axe = pytest.mark.skipif(
    not _AXE.exists(), reason="axe-core is not installed: npm ci in tests/browser"
)

_RUN = """
async (within) => {
  const { violations } = await axe.run(within || document);
  return violations.flatMap((rule) => rule.nodes.map(
    (node) => `${rule.id}: ${node.failureSummary} at ${node.target.flat().join(' ')}`));
}
"""


async def faults(page: Page, within: str | None = None) -> list[str]:
    """One line each. It is evaluated, not added as a script, so that a page's policy holds."""
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(_AXE.read_text(encoding="utf-8") + "\n;undefined")
    found: list[str] = await page.evaluate(_RUN, within)
    return found
