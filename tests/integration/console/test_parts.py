"""The parts that pages share: what was done and its undo, lists to choose from, people, clocks, the directory."""

import pytest
from playwright.async_api import expect

from support_service.console.assets import load_assets
from tests.support.console.browser import NARROW, expect_good_looks, press

NOW = "2026-05-12T12:00:00Z"
MENU = """async ([path, more]) => {
  await import(path);
  const menu = Object.assign(document.createElement("choice-menu"), {
    label: "Department",
    items: [
      { value: "returns", text: "Returns", detail: "3 open" },
      { value: "billing", text: "Billing" },
      { value: "delivery", text: "Đơn hàng" },
    ],
    value: "billing",
    ...more,
  });
  window.chosen = [];
  menu.addEventListener("choose", ({ detail }) => chosen.push(detail));
  document.querySelector("main").prepend(menu);
  await menu.updateComplete;
}"""


@pytest.fixture
async def page(console):
    """The queue, in which the parts are tried."""
    return await console.open()


async def with_menu(page, **more):
    await page.evaluate(MENU, [load_assets().url("parts/choice-menu.js"), more])
    return page.get_by_role("button", name="Department")


async def test_choice_is_made_by_typing_or_arrows_or_given_up(page):
    """Case and diacritics do not matter; the focus returns to the button.

    The list begins at the value; it goes round; Escape, and the focus elsewhere, choose nothing.
    """
    button = await with_menu(page)
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("option", name="Billing")).to_have_attribute("aria-selected", "true")
    await expect_good_looks(page)
    await page.keyboard.type("DON")
    await expect(page.locator(".choices").get_by_role("option")).to_have_text(["Đơn hàng"])
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("listbox")).to_have_count(0)
    await expect(button).to_be_focused()
    assert await page.evaluate("chosen") == ["delivery"]
    await button.press("Enter")
    await press(page, *["ArrowUp"] * 4, "Enter")
    assert await page.evaluate("chosen.slice(1)") == ["returns"]
    await button.press("Enter")
    await page.keyboard.press("Escape")
    await expect(button).to_be_focused()
    await button.click()
    await page.locator("#search").click()
    await expect(page.get_by_role("listbox")).to_have_count(0)
    await expect(page.locator("#search")).to_be_focused()
    await button.click()
    await page.get_by_role("option", name="Billing").click()
    assert await page.evaluate("chosen.slice(2)") == ["billing"]


async def test_several_are_chosen_and_applied_at_once(page):
    """The filter is empty again after each; a new one can be typed.

    The list stays in the window, at the bottom of a narrow one, and where the language runs from the right.
    """
    button = await with_menu(page, multiple=True, value=["billing"], creatable=True)
    await button.press("Enter")
    await press(page, "ret", "Enter", "vip")
    await expect(page.get_by_role("option", name="Add “vip”")).to_be_visible()
    await press(page, "Enter", "Control+Enter")
    await expect(button).to_be_focused()
    await button.press("Enter")
    await page.get_by_role("option", name="Returns").click()
    await page.keyboard.press("Escape")
    assert await page.evaluate("chosen") == [["billing", "returns", "vip"]]
    await page.set_viewport_size(NARROW)
    await page.evaluate("""() => {
      const menu = document.querySelector("choice-menu");
      Object.assign(menu.style, { position: "fixed", bottom: "0", right: "0" });
      document.documentElement.dir = "rtl";
      return menu.open();
    }""")
    box = await page.locator(".choices").bounding_box()
    assert 0 <= box["x"] <= box["x"] + box["width"] <= NARROW["width"]
    assert 0 <= box["y"] <= box["y"] + box["height"] <= NARROW["height"]


TOAST = """async ([path, fails]) => {
  const { toast } = await import(path);
  window.undone = 0;
  toast({
    text: "Assigned to agent-7",
    undo: async () => {
      if (fails) throw new Error("too late");
      undone += 1;
    },
  });
}"""


async def shown_toast(page, *, fails=False):
    await page.evaluate(TOAST, [load_assets().url("parts/toast.js"), fails])
    return page.get_by_role("status").filter(has_text="agent-7")


async def test_change_is_undone_by_key_or_button(page):
    """Once: a second press finds nothing. The focus stays where it was. If the undo fails, the line says why."""
    await page.locator("#search").focus()
    await page.keyboard.press("Shift+Tab")
    line = await shown_toast(page)
    await line.get_by_role("button", name="Undo").focus()  # so that it stays
    await expect_good_looks(page)
    await page.keyboard.press("z")
    await expect(line).to_have_text("Undone: Assigned to agent-7")
    await page.keyboard.press("z")
    assert await page.evaluate("undone") == 1
    await page.locator("#search").focus()
    line = await shown_toast(page)
    await line.get_by_role("button", name="Undo").click()
    await expect(page.locator("#search")).to_be_focused()
    assert await page.evaluate("undone") == 1
    await shown_toast(page, fails=True)
    await line.get_by_role("button", name="Undo").click()
    await expect(page.locator(".toast.bad")).to_contain_text("too late")


@pytest.mark.long
async def test_line_goes_by_itself_but_not_under_the_hand(console):
    """It is there for eight seconds, and for as long as it has the focus."""
    profile = await console.profile()
    await profile.clock.install()
    page = await console.open(profile=profile)
    line = await shown_toast(page)
    await line.get_by_role("button").focus()
    await page.clock.run_for(9_000)
    await expect(line).to_be_visible()
    await page.locator("#search").focus()
    await page.clock.run_for(9_000)
    await expect(line).to_have_count(0)


CLOCKS = """async ([path, now]) => {
  const { urgentClock } = await import(path);
  const at = (minutes) => new Date(Date.parse(now) + 60_000 * minutes).toISOString();
  const clock = (minutes, waiting = true) => ({ dueAt: at(minutes), state: waiting ? "running" : "met", waiting });
  const items = [
    { sla: { firstResponse: clock(16), resolution: clock(300) } },
    { sla: { firstResponse: clock(-20, false), resolution: clock(-11) } },
    { sla: { resolution: clock(300) } },
    { waitingSince: at(-90) },
    {},
  ];
  const found = items.map((item) => urgentClock(item, Date.parse(now)));
  return found.map((each) => each && [each.text, each.level, each.title.split(",")[0]]);
}"""


async def test_one_clock_of_a_case_is_shown(page):
    """The clock that is due first and that something waits for; without one, the wait.

    People have initials: of names, ids and addresses. Each time to snooze until is offered once, and none of them is
    another day's by a wrong name.
    """
    assert await page.evaluate(CLOCKS, [load_assets().url("parts/clock.js"), NOW]) == [
        ["16 min", "soon", "First answer due in 16 min"],
        ["11 min late", "late", "Resolution overdue 11 min"],
        ["5 h", "none", "Resolution due in 5 h"],
        ["1 h 30 min", "none", "waiting 1 h 30 min"],
        None,
    ]
    names = ["Linh Trần", "anna maria berger", "agent-7", "ann.lee@example.org", "客户", ""]
    shown = "async ([path, names]) => names.map((await import(path)).initials)"
    found = await page.evaluate(shown, [load_assets().url("parts/person.js"), names])
    assert found == ["LT", "AB", "A7", "AL", "客", "?"]
    for hour, day, offered in OFFERED:
        found = await page.evaluate(SNOOZES, [load_assets().url("parts/snooze-times.js"), hour, day])
        assert found == list(map(list, offered.items())), (hour, day)


SNOOZES = """async ([path, hour, day]) => {
  const { snoozeTimes } = await import(path);
  const at = (time) => `${time.getDate()} ${time.getHours()}`;
  return snoozeTimes(new Date(2026, 4, day, hour)).map((each) => [each.name.split(".")[1], at(each.at)]);
}"""


OFFERED = [  # 11 May 2026 is a Monday
    (14, 13, {"today": "13 17", "tomorrow": "14 9", "monday": "18 9", "week": "20 9"}),
    (22, 13, {"tomorrow": "14 9", "monday": "18 9", "week": "20 9"}),  # no more today
    (14, 17, {"today": "17 17", "tomorrow": "18 9", "week": "24 9"}),  # tomorrow is Monday
    (14, 18, {"today": "18 17", "tomorrow": "19 9", "week": "25 9"}),  # a week is until Monday
]


@pytest.mark.long
async def test_directory_is_read_once_a_minute(console, client):
    """All pages of it."""
    for number in range(101):
        await client.put(f"/support/agents/agent-{number}", json={"displayName": f"Agent {number}"})
    page, asked = await console.open("/console/oncall"), []  # which does not need it
    page.on("request", lambda request: asked.append(request.url) if "/support/agents" in request.url else None)
    read = "async (path) => (await (await import(path)).agents()).map(({ id }) => id)"
    for _ in range(2):
        found = await page.evaluate(read, load_assets().url("lib/agents.js"))
        assert sorted(found) == sorted(f"agent-{number}" for number in range(101))
    assert len(asked) == 2


DIFFERENCES = """async ([path, locale]) => {
  const own = await import(path);
  const short = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" };
  const long = { weekday: "long", day: "numeric", month: "long", year: "numeric" };
  const intl = (options) => (at) => new Intl.DateTimeFormat(locale, options).format(at).replace(/^(\\w+),/, "$1");
  const figures = (digits) => (value) => new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(value);
  const dates = [...Array(12).keys()].map((month) => new Date(2026, month, month + 3, 2 * month, 5 * month, month));
  const numbers = [0, 7, 999, 1000, 12.34, 0.06, 1234567.5, -1234.5];
  const pairs = [
    [dates, own.dateAndTime, intl(short)],
    [dates, own.day, intl(long)],
    [dates, own.clockWithSeconds, intl({ hour: "2-digit", minute: "2-digit", second: "2-digit" })],
    [numbers, (value) => own.number(value, 1), figures(1)],
    [numbers.map(Math.round), own.number, figures(0)],
  ];
  const shown = pairs.flatMap(([values, mine, theirs]) => values.map((each) => [mine(each), theirs(each)]));
  return shown.filter(([mine, theirs]) => mine !== theirs);
}"""


@pytest.mark.parametrize("locale", [pytest.param("en-GB", marks=pytest.mark.long), "vi"])
async def test_dates_and_numbers_look_like_the_browsers_own(console, locale):
    """In both languages: each month, thousands, fractions.

    The console formats them itself, because the browser's `Intl` is slow at its first use.
    """
    page = await console.open(locale=locale)
    assert await page.evaluate(DIFFERENCES, [load_assets().url("lib/i18n.js"), locale]) == []
