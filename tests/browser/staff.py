"""Staff at their browsers: they get in as people do, by the pages, with an authenticator in hand.

async with staff_member(browser, console, "li") as li: await li.set_up(link)
"""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pyotp
from playwright.async_api import Browser, Locator, Page, expect

from tally.accounts.credentials import CODE_SECONDS
from tally.console import pages
from tests.browser.chromium import Watched, watched

PASSWORD = "十二个以上的字才算口令，这里够了"

_ = pages.translator("zh")
"""What a text is called on the pages that these people read."""


@dataclass
class StaffMember:
    """Somebody with an account, in a browser of their own."""

    name: str
    console: str
    """Address of the console."""
    seen: Watched
    authenticator: pyotp.TOTP | None = None

    @property
    def page(self) -> Page:
        return self.seen.page

    def code(self, steps_from_now: int = 0) -> str:
        return self.authenticator.at(time.time() + CODE_SECONDS * steps_from_now)

    async def go(self, path: str) -> None:
        answer = await self.page.goto(self.console + path)
        assert answer.ok, (path, answer.status, await self.page.locator("main").inner_text())

    async def press(self, text: str, within: Locator | None = None, *, exact: bool = True) -> None:
        """A button of the page, by its English name."""
        place = within or self.page.locator("main")
        await place.get_by_role("button", name=_(text), exact=exact).click()

    async def fill(self, **fields: str) -> None:
        """Fields of the page's form, by the names that the form sends."""
        for name, text in fields.items():
            await self.page.locator(f"main [name={name}]:not([type=hidden])").fill(text)

    async def follow(self, text: str, *, exact: bool = True) -> None:
        """A link of the page, by its English name."""
        main = self.page.locator("main")
        await main.get_by_role("link", name=_(text), exact=exact).first.click()

    async def is_told(self, text: str) -> None:
        await expect(self.page.get_by_role("status").first).to_contain_text(_(text))

    async def set_up(self, link: str) -> str:
        """Use the one-time link: choose a password, enrol an authenticator; in they are. The code
        that they enrolled with."""
        await self.page.goto(link)
        await self.fill(password=PASSWORD, again=PASSWORD)
        await self.press("Go on")
        secret = await self.page.locator(".secret").inner_text()
        self.authenticator = pyotp.TOTP(secret.replace(" ", ""))
        code = self.code()
        await self.enter_code("Enrol", code)
        await self.is_in()
        return code

    async def is_in(self) -> None:
        await expect(self.page.locator("header a[href='/account']")).to_have_text(self.name)

    async def sign_out(self) -> None:
        await self.page.get_by_role("button", name=_("Sign out")).click()
        await self.is_told("You are signed out.")

    async def enter_password(self, password: str = PASSWORD) -> None:
        await self.go("/sign-in")
        await self.fill(name=self.name, password=password)
        await self.press("Go on")

    async def enter_code(self, button: str, code: str) -> None:
        await self.fill(code=code)
        await self.press(button)

    async def give_reason(self, reason: str) -> None:
        await self.fill(reason=reason)

    async def agree(self, proposal: str) -> None:
        """As the second person, to the proposal at this address."""
        await self.page.goto(proposal)
        await self.press("Agree, and do it")
        await self.is_told("Agreed to, and done.")

    async def try_to_agree(self, proposal: str) -> tuple[int, str]:
        """By a form that the page does not have: (status, what it says)."""
        await self.page.goto(proposal)
        return await self.page.evaluate(
            """async (address) => {
                const answer = await fetch(`${address}/approve`, {method: "POST",
                    body: new URLSearchParams({shown: ""})});
                const page = new DOMParser().parseFromString(await answer.text(), "text/html");
                return [answer.status, page.querySelector("main").textContent];
            }""",
            proposal.partition("?")[0],
        )


@contextlib.asynccontextmanager
async def staff_member(
    browser: Browser, console: str, name: str, width: int = 1280, height: int = 900
) -> AsyncIterator[StaffMember]:
    """Somebody before a closed door. At the end no page of theirs may have complained."""
    async with watched(browser, width, height) as seen:
        member = StaffMember(name, console, seen)
        yield member
        assert seen.own_complaints() == []
