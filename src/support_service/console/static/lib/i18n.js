/** Texts, times, durations and sizes in the language of the browser, or in the one that its user chose. */

import { load, save } from "./storage.js";

/** @typedef {keyof typeof import("../i18n/en.js").texts} TextName */

export const LANGUAGES = { en: "English", vi: "Tiếng Việt" };

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
 * Return a text. `{name}` is replaced by a value; of `{n|one|many}` the part for the number n remains.
 * @param {TextName} name
 * @param {Record<string, string | number>} [values]
 */
export function t(name, values = {}) {
  const text = texts[name] ?? name;
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, key, one, many) => {
    if (one === undefined) return String(values[key] ?? "");
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
 * @param {string} word
 */
export function word(group, word) {
  return texts[`${group}.${word}`] ?? word;
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const UNITS = ["B", "kB", "MB", "GB"];

/** @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();

/**
 * @param {string} name
 * @param {Intl.DateTimeFormatOptions} options
 */
function format(name, options) {
  let found = formats.get(name);
  if (!found) formats.set(name, (found = new Intl.DateTimeFormat(language === "vi" ? "vi" : "en-GB", options)));
  return found;
}

/** @param {string | number | Date} at */
export function clock(at) {
  return format("clock", { hour: "2-digit", minute: "2-digit" }).format(new Date(at));
}

/** @param {string | number | Date} at */
export function clockWithSeconds(at) {
  return format("seconds", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(at));
}

/** @param {string | number | Date} at */
export function day(at) {
  return format("day", { weekday: "long", day: "numeric", month: "long", year: "numeric" }).format(new Date(at));
}

/** @param {string | number | Date} at */
export function dateAndTime(at) {
  return format("both", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" }).format(
    new Date(at),
  );
}

/** Return the local day of a time, as text that sorts. @param {string} at */
export function dayKey(at) {
  const date = new Date(at);
  return `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
}

/**
 * Return a number of seconds in at most two units, such as `3 h 12 min`.
 * @param {number} seconds
 */
export function duration(seconds) {
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
 * @param {number} value seconds
 */
export function seconds(value) {
  if (value >= MINUTE) return duration(value);
  const format = (/** @type {number} */ amount) => new Intl.NumberFormat(language, { maximumFractionDigits: amount < 10 ? 1 : 0 }).format(amount);
  return value < 1 ? `${format(value * 1000)} ms` : t("time.seconds", { n: format(value) });
}

/** Return a share of 1 in percent. @param {number} value */
export function percent(value) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);
}

/**
 * Return how long ago a time was.
 * @param {string} at
 * @param {number} [now] milliseconds
 */
export function since(at, now = Date.now()) {
  return duration((now - new Date(at).getTime()) / 1000);
}

/** @param {number} bytes */
export function size(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit && value < 10 ? 1 : 0;
  return `${new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value)} ${UNITS[unit]}`;
}

/** @param {number} value */
export function number(value) {
  return new Intl.NumberFormat(language).format(value);
}
