/** Charts of figures by day, as shapes that the content policy allows: no style, no script from elsewhere. */

import { nothing, svg } from "../vendor/lit-element/lit-element.js";
import { html } from "../lib/page.js";
import { dayAndMonth, number, t } from "../lib/i18n.js";

const HEIGHT = 100;
const STEP = 10; // width of a day
const BAR = 7;

/**
 * @typedef {{name: string, kind: "bars" | "line", values: (number | null)[]}} Series
 */

/**
 * Show series of the same days: bars, and lines above them. The figures are beside it as a table.
 * @param {string} title
 * @param {string[]} days
 * @param {Series[]} series
 * @param {(value: number) => string} [format]
 */
export function dayChart(title, days, series, format = number) {
  const known = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const highest = Math.max(...known, 0);
  return html`<figure class="chart">
    <figcaption>
      <strong>${title}</strong>
      ${series.length > 1 ? series.map(({ name, kind }) => html`<span class="legend" data-kind=${kind}>${name}</span>`) : nothing}
    </figcaption>
    ${known.length
      ? html`<div class="plot">
            <span class="muted">${format(highest)}</span>
            <svg viewBox="0 0 ${days.length * STEP} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
              ${series.map(({ kind, values }) => svg`<path data-kind=${kind} d=${(kind === "bars" ? bars : line)(values, highest || 1)} />`)}
            </svg>
            <span class="muted days"><span>${dayAndMonth(days[0])}</span><span>${dayAndMonth(days[days.length - 1])}</span></span>
          </div>
          <details>
            <summary>${t("chart.table")}<span class="visually-hidden">: ${title}</span></summary>
            <div class="scroller" tabindex="0" role="region" aria-label=${title}>
              <table>
                <thead><tr><th scope="col">${t("chart.day")}</th>${series.map(({ name }) => html`<th scope="col">${name}</th>`)}</tr></thead>
                <tbody>
                  ${days.map((day, index) => html`<tr><th scope="row">${dayAndMonth(day)}</th>${series.map(({ values }) => html`<td>${shown(values[index], format)}</td>`)}</tr>`)}
                </tbody>
              </table>
            </div>
          </details>`
      : html`<p class="muted">${t("chart.nothing")}</p>`}
  </figure>`;
}

/**
 * @param {number | null} value
 * @param {(value: number) => string} format
 */
function shown(value, format) {
  return value === null ? "–" : format(value);
}

/** @param {(number | null)[]} values @param {number} highest */
function bars(values, highest) {
  const found = values.map((value, index) => {
    const height = (HEIGHT * (value ?? 0)) / highest;
    return value ? `M${index * STEP + (STEP - BAR) / 2} ${HEIGHT}v${-height.toFixed(2)}h${BAR}V${HEIGHT}z` : "";
  });
  return found.join("");
}

/** @param {(number | null)[]} values @param {number} highest */
function line(values, highest) {
  let isDrawn = false;
  const found = values.map((value, index) => {
    const command = isDrawn ? "L" : "M";
    isDrawn = value !== null;
    if (value === null) return "";
    const x = index * STEP + STEP / 2;
    const y = (HEIGHT - 1 - ((HEIGHT - 2) * value) / highest).toFixed(2);
    return `${command}${x} ${y}${command === "M" ? `h0.1` : ""}`; // a day alone is a point
  });
  return found.join("");
}

/**
 * Show a share of the highest value as a bar.
 * @param {number | null} value
 * @param {number} highest
 */
export function shareBar(value, highest) {
  const width = highest > 0 ? (100 * (value ?? 0)) / highest : 0;
  return html`<svg class="share" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect width=${width.toFixed(1)} height="4" /></svg>`;
}
