/** Texts, times, durations and sizes in the language of the browser, or in the one that its user chose. */

import { load, save } from "./storage.js";

/** @typedef {keyof typeof import("../i18n/en.js").texts} TextName */

export const LANGUAGES = { en: "English", vi: "Tiếng Việt" };

const DEEPEST = 6; // levels of lists and objects that are shown
const LONGEST = 2_000; // characters of a list or an object
const UNKNOWN = "–"; // in place of a time or a figure that can't be read

/** @type {"en" | "vi"} */
export let language = "en";
/** @type {Record<string, string>} */
let texts = {};

/** Load the texts. They come with the first page, so that no page shows names instead of texts. */
export async function loadTexts() {
  const chosen = load("language") ?? navigator.languages.find((each) => each.slice(0, 2) in LANGUAGES)?.slice(0, 2);
  language = chosen === "vi" ? "vi" : "en";
  texts = (await (language === "vi" ? import("../i18n/vi.js") : import("../i18n/en.js"))).texts;
  document.documentElement.lang = language;
}

/** @param {string} chosen */
export function chooseLanguage(chosen) {
  save("language", chosen);
  location.reload();
}

/**
 * Return any value of JSON as text. Of a list or an object it is bounded. It never throws.
 * @param {unknown} value
 * @param {number} [depth]
 * @returns {string}
 */
export function text(value, depth = 0) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "object") return String(value);
  if (depth === DEEPEST) return "…";
  const parts = Array.isArray(value)
    ? value.map((each) => text(each, depth + 1))
    : Object.entries(value).flatMap(([name, each]) => (isEmpty(each) ? [] : `${word("field", name)}: ${text(each, depth + 1)}`));
  const joined = parts.join(", ");
  return joined.length > LONGEST ? `${joined.slice(0, LONGEST)}…` : joined;
}

/** @param {unknown} value */
export function isEmpty(value) {
  return value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length);
}

/**
 * Return a text. `{name}` is replaced by a value; of `{n|one|many}` the part for the number n remains.
 * @param {TextName} name
 * @param {Record<string, unknown>} [values]
 */
export function t(name, values = {}) {
  const found = texts[name] ?? name;
  return found.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, key, one, many) => {
    if (one === undefined) return text(values[key]);
    return values[key] === 1 ? one : many;
  });
}

/** Return the words of the API that a group has texts for. @param {string} group */
export function wordsOf(group) {
  const prefix = `${group}.`;
  return Object.keys(texts).flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []));
}

/**
 * Return the text for a word of the API such as a status, or the word itself.
 * @param {string} group
 * @param {unknown} word
 */
export function word(group, word) {
  const given = text(word);
  return texts[`${group}.${given}`] ?? given;
}

/** Return the text for a state that another service gives, such as `in_transit` or `order.shipped`. @param {unknown} state */
export function stateOf(state) {
  return word("state", state).replaceAll("_", " ");
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const UNITS = ["B", "kB", "MB", "GB"];

// Not by `Intl`: its first use takes a quarter of the time until a page is shown (25 ms of a fast processor).

/** @param {number} value of a time */
function twoDigits(value) {
  return String(value).padStart(2, "0");
}

/** Return a time as a date, or null if it can't be read. @param {unknown} at */
function dateOf(at) {
  const date = at instanceof Date ? at : new Date(typeof at === "string" || typeof at === "number" ? at : NaN);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** @param {unknown} at */
export function clock(at) {
  const date = dateOf(at);
  if (!date) return UNKNOWN;
  return `${twoDigits(date.getHours())}:${twoDigits(date.getMinutes())}`;
}

/** @param {unknown} at */
export function clockWithSeconds(at) {
  const date = dateOf(at);
  return date ? `${clock(date)}:${twoDigits(date.getSeconds())}` : UNKNOWN;
}

/** @param {unknown} at */
export function day(at) {
  const date = dateOf(at);
  if (!date) return UNKNOWN;
  const weekday = t("date.weekdays").split("|")[date.getDay()];
  return t("date.day", { weekday, day: date.getDate(), month: t("date.months").split("|")[date.getMonth()], year: date.getFullYear() });
}

/** @param {unknown} at */
export function dateAndTime(at) {
  const date = dateOf(at);
  if (!date) return UNKNOWN;
  const month = t("date.short_months").split("|")[date.getMonth()];
  return t("date.date_and_time", { day: date.getDate(), month, year: date.getFullYear(), time: clock(date) });
}

/** Return a day without its year. @param {string} given a date of ISO 8601 */
export function dayAndMonth(given) {
  const date = dateOf(`${given}T00:00`);
  if (!date) return UNKNOWN;
  return t("date.day_and_month", { day: date.getDate(), month: t("date.short_months").split("|")[date.getMonth()] });
}

/** Return the local day of a time, as text; none for a time that can't be read. @param {unknown} at */
export function dayKey(at) {
  const date = dateOf(at);
  if (!date) return "";
  return `${date.getFullYear()}-${twoDigits(date.getMonth() + 1)}-${twoDigits(date.getDate())}`;
}

/**
 * Return a number of seconds in at most two units, such as `3 h 12 min`.
 * @param {unknown} seconds
 */
export function duration(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return UNKNOWN;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < MINUTE) return t("time.seconds", { n: whole });
  if (whole < HOUR) return t("time.minutes", { n: Math.floor(whole / MINUTE) });
  if (whole < DAY) {
    const minutes = Math.floor((whole % HOUR) / MINUTE);
    const hours = t("time.hours", { n: Math.floor(whole / HOUR) });
    return minutes ? `${hours} ${t("time.minutes", { n: minutes })}` : hours;
  }
  const hours = Math.floor((whole % DAY) / HOUR);
  const days = t("time.days", { n: Math.floor(whole / DAY) });
  return hours && whole < 10 * DAY ? `${days} ${t("time.hours", { n: hours })}` : days;
}

/**
 * Return a short time, such as `4 ms` or `2.5 s`.
 * @param {unknown} value seconds
 */
export function seconds(value) {
  if (typeof value !== "number") return UNKNOWN;
  if (value >= MINUTE) return duration(value);
  const format = (/** @type {number} */ amount) => number(amount, amount < 10 ? 1 : 0);
  return value < 1 ? `${format(value * 1000)} ms` : t("time.seconds", { n: format(value) });
}

/** Return a share of 1 in percent. @param {unknown} value */
export function percent(value) {
  if (typeof value !== "number") return UNKNOWN;
  return `${number(value * 100, 1)}%`;
}

/**
 * Return how long ago a time was.
 * @param {unknown} at
 * @param {number} [now] milliseconds
 */
export function since(at, now = Date.now()) {
  const date = dateOf(at);
  return date ? duration((now - date.getTime()) / 1000) : UNKNOWN;
}

/** @param {unknown} bytes */
export function size(bytes) {
  if (typeof bytes !== "number") return UNKNOWN;
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${number(value, unit && value < 10 ? 1 : 0)} ${UNITS[unit]}`;
}

/**
 * Return a number with at most so many digits after the point.
 * @param {unknown} value
 * @param {number} [digits]
 */
export function number(value, digits = 0) {
  if (typeof value !== "number") return UNKNOWN;
  const [whole, fraction] = String(Number(value.toFixed(digits))).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, t("number.group"));
  return fraction ? grouped + t("number.point") + fraction : grouped;
}
