/** Figures that a page has seen since it was opened, for at most an hour, as small charts. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { t } from "./i18n.js";
import { html } from "./page.js";

const KEPT = 60 * 60 * 1000; // ms
const WIDTH = 120;
const HEIGHT = 24;
const GAP = 30_000; // ms between samples over which no line is drawn

/** @typedef {[number, number | null]} Sample the time in ms, and the value */

export class Samples {
  opened = Date.now();
  /** @type {Map<string, Sample[]>} */
  byName = new Map();

  /** When the charts begin. */
  get since() {
    return Math.max(this.opened, Date.now() - KEPT);
  }

  /** @param {Record<string, number | null>} figures by name */
  add(figures) {
    const now = Date.now();
    for (const [name, value] of Object.entries(figures)) {
      const kept = (this.byName.get(name) ?? []).filter(([at]) => at > now - KEPT);
      this.byName.set(name, [...kept, [now, value]]);
    }
  }

  /**
   * Show the samples of a figure. The chart is from 0 to the highest value that was seen, or to the threshold.
   * @param {string} name
   * @param {string} label what the figure is
   * @param {(value: number) => string} format
   * @param {number} [limit] the threshold from which the figure is a problem
   */
  chart(name, label, format, limit) {
    const samples = this.byName.get(name) ?? [];
    const values = samples.flatMap(([, value]) => (value === null ? [] : [value]));
    if (values.length < 2) return nothing;
    const highest = Math.max(...values);
    const top = Math.max(highest, limit ?? 0) || 1;
    return html`<figure class="spark">
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
        <path d=${line(samples, top)} />
        <path class="limit" d=${limit ? `M0 ${yOf(limit, top)}H${WIDTH}` : ""} />
      </svg>
      <figcaption class="muted">
        ${t("oncall.chart", { label, highest: format(highest) })}${limit ? t("oncall.threshold", { limit: format(limit) }) : nothing}
      </figcaption>
    </figure>`;
  }
}

/**
 * Return a path through samples; where some are missing, it begins again.
 * @param {Sample[]} samples
 * @param {number} highest
 */
function line(samples, highest) {
  const [first, last] = [samples[0][0], samples[samples.length - 1][0]];
  const parts = [];
  let before = -Infinity;
  for (const [at, value] of samples) {
    if (value === null) continue;
    const x = (WIDTH * (at - first)) / Math.max(last - first, 1);
    parts.push(`${at - before > GAP ? "M" : "L"}${x.toFixed(1)} ${yOf(value, highest)}`);
    before = at;
  }
  return parts.join("");
}

/** @param {number} value @param {number} highest */
function yOf(value, highest) {
  return (HEIGHT - 1 - (HEIGHT - 2) * (value / highest)).toFixed(1);
}
