"""What every page has: the palette, keys that lead elsewhere, news in the title and the icon, colours and sound."""

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, expect_json, open_case
from tests.support.console.browser import NARROW, WIDE, expect_good_looks, expect_no_sideways_scrolling, settled
from tests.support.console.samples import case_path
from tests.support.service import own_client

client = own_client

PAGES = ["/console/", "/console/team", "/console/oncall", "/console/audit", "/console/customers/customer-17"]


async def open_palette(page):
    await page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find and do")
    await expect(palette.get_by_role("combobox")).to_be_focused()
    return palette


async def test_palette_finds_cases_customers_views_and_pages(console, client, case):
    """Also from a field; Escape gives the focus back to it."""
    await client.put("/support/customers/customer-17", json={"name": "Anna Berger"})
    page = await console.open()
    await page.locator("#search").focus()
    palette = await open_palette(page)
    await expect(palette.get_by_role("group", name="Views").get_by_role("option")).not_to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(page.locator("#search")).to_be_focused()
    found = {"arrived": case["subject"], "berg": "Anna Berger", "aud": "Audit", "on-c": "On-call"}
    for typed, heading in found.items():
        await open_palette(page)
        await page.keyboard.type(typed)
        await expect(palette.get_by_role("option").first).to_contain_text(heading)
        await page.keyboard.press("Enter")
        await expect(palette).to_have_count(0)
        await expect(page.get_by_role("heading", level=1)).to_contain_text(heading)


@pytest.mark.long
async def test_palette_is_used_by_mouse(console):
    """A button in the bar opens it, on a phone one that has a picture and a name, and a click beside it closes it."""
    page = await console.open(viewport=NARROW)
    button, palette = page.get_by_role("button", name="Find and do"), page.get_by_role("dialog", name="Find and do")
    await expect(button).to_be_in_viewport(ratio=1)
    await button.click()
    await expect(palette.get_by_role("combobox")).to_be_focused()
    await expect_good_looks(page)
    await page.mouse.click(5, WIDE["height"] - 5)
    await expect(palette).to_have_count(0)
    await button.click()
    await page.get_by_role("option", name="Team").click()
    await expect(page.get_by_role("heading", name="Team", level=1)).to_be_visible()


async def test_keys_lead_to_views_and_pages(console, case):
    """`g` and a letter, also where the letter alone does something else; not while something is written.

    In the palette, the key of an action stands beside it; choosing it does the same.
    """
    page = await console.open(case)
    palette = await open_palette(page)
    await page.keyboard.type("internal note")
    await expect(palette.get_by_role("option").first.locator("kbd")).to_have_text("n")
    await page.keyboard.press("Enter")
    await expect(page.locator("#composer")).to_be_focused()
    await page.keyboard.press("Escape")
    pages = {"m": "?view=mine", "u": "?view=unassigned", "o": "oncall", "a": "audit", "t": "team"}
    for key, address in pages.items():
        await page.keyboard.type(f"g{key}")
        await expect(page).to_have_url(f"{console.address}/console/{address}")
    await page.goto("/console/")
    await page.locator("#search").fill("")
    await page.keyboard.type("gm")
    await expect(page.locator("#search")).to_have_value("gm")


COUNTS_SOUNDS = """window.sounds = 0;
  const start = OscillatorNode.prototype.start;
  OscillatorNode.prototype.start = function () { sounds += 1; return start.call(this); };"""
LOOKS_AWAY = "window.looks = false; document.hasFocus = () => window.looks;"


async def expect_title(page, title):
    await expect(page).to_have_title(f"{title} \u2013 Support")


async def test_title_and_icon_count_what_came_meanwhile(console, client, case):
    """Cases with news, each once; what others have, and own changes, are no news. Looking at the window ends it."""
    mine = await open_case(client, subject="Mine", assignedAgentId="ann")
    others = await open_case(client, subject="Another's", assignedAgentId="bob")
    profile = await console.profile()
    await profile.add_init_script("localStorage.setItem('support-console:working-as', '\"ann\"')")
    await profile.add_init_script(LOOKS_AWAY)
    page = await console.open(profile=profile)
    await expect(page.locator(".live")).to_have_text("live")
    icon = page.locator("link[rel=icon]")
    for text in ("One", "Two"):
        await add_message(client, others, text, authorType="customer")
        await add_message(client, mine, text, authorType="customer")
    await expect_title(page, "(1) Queue")
    await add_message(client, case, "Hello?", authorType="customer")
    await expect_title(page, "(2) Queue")
    assert (await icon.get_attribute("href")).endswith("/icon-new.svg")
    assert (await page.request.get(await icon.get_attribute("href"))).ok
    await page.keyboard.type("ga")
    await expect_title(page, "(2) Audit")
    await page.evaluate("looks = true; dispatchEvent(new Event('focus'))")
    await expect_title(page, "Audit")
    assert (await icon.get_attribute("href")).endswith("/icon.svg")


@pytest.mark.long
async def test_sound_is_off_until_it_is_turned_on(console, client, case):
    """The choice is kept, and is heard once; then a new message sounds, but not many at once.

    A hidden tab does not sound while the user reads in another one, although it follows the stream for both.
    """
    profile = await console.profile()
    await profile.add_init_script(COUNTS_SOUNDS)
    await profile.add_init_script(LOOKS_AWAY)
    page = await console.open(profile=profile)
    await expect(page.locator(".live")).to_have_text("live")
    await add_message(client, case, "One", authorType="customer")
    await expect_title(page, "(1) Queue")
    assert await page.evaluate("sounds") == 0
    await page.locator(".account summary").click()
    await page.get_by_label("Sound for new messages").check()
    assert await page.evaluate("sounds") == 1
    await page.reload()
    await expect(page.locator(".live")).to_have_text("live")
    other = await open_case(client, subject="Two")
    for each in (case, other):
        await add_message(client, each, "Two", authorType="customer")
    await expect_title(page, "(2) Queue")
    await page.evaluate("navigator.locks.query()")  # after the page's own questions
    assert await page.evaluate("sounds") == 1

    await page.reload()
    await expect(page.locator(".live")).to_have_text("live")
    reading = await console.open("/console/oncall", profile=profile)
    await expect(reading.locator(".live")).to_have_text("live")
    await reading.evaluate("looks = true; dispatchEvent(new Event('focus'))")
    await add_message(client, case, "Three", authorType="customer")
    await expect_title(page, "(1) Queue")
    await page.evaluate("navigator.locks.query()")
    assert await page.evaluate("sounds") == 0
    await reading.evaluate("looks = false; dispatchEvent(new Event('blur'))")
    await add_message(client, case, "Four", authorType="customer")
    await eventually(lambda: page.evaluate("sounds"))
    await expect_title(reading, "(1) On-call")
    assert await reading.evaluate("sounds") == 0


async def test_menu_of_the_user_has_presence_and_colours(console, client):
    """Who is in the directory goes away and comes back there.

    Colours are chosen against the system's colours, and kept, also after a reload.
    """

    async def away():
        return (await expect_json(client.get("/support/agents/anyone")))["away"]

    await client.put("/support/agents/anyone", json={"displayName": "Ann Lee"})
    page = await console.open()
    await page.locator(".account summary").click()
    await page.get_by_label("Away").check()
    await expect(page.get_by_text("You are away")).to_be_visible()
    assert await away()
    await page.get_by_role("button", name="Undo").click()
    await expect(page.get_by_label("Away")).not_to_be_checked()
    assert not await away()
    for theme, system in (("Dark", "light"), ("Light", "dark")):
        await page.emulate_media(color_scheme=system)
        await page.reload()
        await page.locator(".account summary").click()
        await page.get_by_label("Colours").select_option(theme)
        for _ in range(2):
            await expect(page.locator("html")).to_have_css("color-scheme", theme.lower())
            await page.reload()


@pytest.mark.long
@pytest.mark.parametrize("locale", ["en-GB", "vi"])
async def test_pages_fit_from_the_right_and_in_each_width(console, case, locale):
    """From 390 to 1,920 px, also in a language that runs from the right."""
    page = await console.open(locale=locale)
    for address in (*PAGES, case_path(case)):
        await page.goto(address)
        await page.locator("main h1").first.wait_for()
        await settled(page)
        for direction in ("ltr", "rtl"):
            await page.evaluate(f"document.documentElement.dir = {direction!r}")
            for width in (390, 768, 1280, 1920):
                await page.set_viewport_size({"width": width, "height": 900})
                await expect_no_sideways_scrolling(page)
