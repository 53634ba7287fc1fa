"""Dates and numbers, which the console formats itself, because the browser's `Intl` is slow at its first use."""

import pytest

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
    """In both languages: each month, thousands, fractions."""
    page = await console.open(locale=locale)
    path = await page.evaluate("[...document.querySelectorAll('link')].find(({href}) => href.includes('i18n.js')).href")
    assert await page.evaluate(DIFFERENCES, [path, locale]) == []
