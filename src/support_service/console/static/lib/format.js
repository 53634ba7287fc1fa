/** Times, durations and sizes for people. */

import { html, nothing } from "../vendor/lit-element/lit-element.js";
import { language, t } from "./i18n.js";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const SOON = 30 * 60; // seconds before a time at which it counts as at risk
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

/**
 * Return the clock that ends next, as a short mark.
 * @param {any} sla
 * @param {number} now milliseconds
 */
export function slaMark(sla, now) {
  const due = sla?.dueAt;
  if (!due) return nothing;
  const left = (new Date(due).getTime() - now) / 1000;
  const state = left < 0 ? "breached" : left < SOON ? "risk" : "ok";
  const text = left < 0 ? t("sla.late", { time: duration(-left) }) : t("sla.left", { time: duration(left) });
  return html`<span class="sla" data-state=${state} title=${dateAndTime(due)}>${text}</span>`;
}
