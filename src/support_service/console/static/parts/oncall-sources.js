/** The cards of the upstream services, and the overrides that switch them off or keep their answers longer. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { clock, dateAndTime, number, percent, seconds, since, t, word } from "../lib/i18n.js";
import { can } from "../lib/api.js";
import { html } from "../lib/page.js";
import { cardHead, given } from "./oncall-cards.js";

/** @typedef {import("../pages/oncall.js").OnCallPage} Page */

const MANY_ERRORS = 0.1; // share of calls that failed from which it is marked

/** @param {Page} page */
export function sources(page) {
  const found = page.status.sources;
  return html`<section class="oncall-card wide" data-card="sources" data-status=${found.status} aria-labelledby="card-sources">
    ${cardHead("sources", found)}
    <div class="oncall-sources">${found.items.map((/** @type {any} */ each) => source(page, each))}</div>
  </section>`;
}

/**
 * @param {Page} page
 * @param {any} item
 */
function source(page, item) {
  const unknown = html`<span class="muted">–</span>`;
  return html`<section class="oncall-source" data-source=${item.service} data-breaker=${item.breaker ?? "none"}>
    <h3>${word("source", item.service)}</h3>
    ${item.configured
      ? html`<dl class="pairs">
            <dt>${t("oncall.breaker")}</dt><dd class="breaker">${word("breaker", item.override ? "not_called" : item.breaker)}</dd>
            <dt>${t("oncall.calls")}</dt><dd>${number(item.calls)}</dd>
            <dt>${t("oncall.errors")}</dt><dd class=${item.errorShare >= MANY_ERRORS ? "warning" : nothing}>${given(item.errorShare, percent) ?? unknown}</dd>
            <dt>p95</dt><dd>${given(item.p95Seconds, seconds) ?? unknown}</dd>
            <dt>${t("oncall.last_answer")}</dt><dd>${given(item.lastAnswerAt, (at) => html`<time datetime=${at} title=${dateAndTime(at)}>${t("oncall.ago", { time: since(at) })}</time>`) ?? unknown}</dd>
          </dl>
          ${page.samples.chart(`errors:${item.service}`, t("oncall.errors"), percent)}`
      : html`<p class="muted">${t("oncall.not_configured")}</p>`}
    ${item.configured || item.override ? overrideLine(page, item.service, item.override) : nothing}
  </section>`;
}

/**
 * Show the override in effect, and what may be done about it.
 * @param {Page} page
 * @param {string} name
 * @param {any} override
 */
export function overrideLine(page, name, override) {
  const labels = { name: name === "ttl" ? t("oncall.ttl_name") : word("source", name) };
  const isToday = override && new Date(override.until).toDateString() === new Date().toDateString();
  return html`<div class="override" data-set=${override ? "yes" : "no"}>
    ${override
      ? html`<p>
          <strong>${override.value === null ? t("oncall.switched_off") : t("oncall.kept_for", { time: seconds(override.value) })}</strong>
          ${t("oncall.until", { time: isToday ? clock(override.until) : dateAndTime(override.until) })}
          ${override.reason ? html`<bdi class="muted">${override.reason}</bdi>` : nothing}
        </p>`
      : nothing}
    ${can("overrides:write")
      ? html`<p class="row">
          <button ?disabled=${page.busy} @click=${() => page.edit(name, override)}>
            ${override ? t("oncall.extend") : name === "ttl" ? t("oncall.keep_longer") : t("oncall.switch_off")}<span class="visually-hidden">: ${labels.name}</span>
          </button>
          ${override
            ? html`<button ?disabled=${page.busy} @click=${() => page.clear(override)}>${t("oncall.clear")}<span class="visually-hidden">: ${labels.name}</span></button>`
            : nothing}
        </p>`
      : nothing}
  </div>`;
}
