/** The cards of on-call: the upstream services with their overrides, and the service's own parts. Each shows state, scope, age and links. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { clock, clockWithSeconds, dateAndTime, duration, number, percent, seconds, since, size, t, word } from "../lib/i18n.js";
import { can } from "../lib/api.js";
import { html } from "../lib/page.js";

/** @typedef {import("../pages/oncall.js").OnCallPage} Page */
/** @typedef {[import("../lib/i18n.js").TextName, unknown]} Pair a label, and its value or null */

const MANY_ERRORS = 0.1; // share of calls that failed from which it is marked

/** Return the figures of a state that charts show. @param {any} status @returns {Record<string, number | null>} */
export function figures(status) {
  const bySource = status.sources.items.map((/** @type {any} */ each) => [`errors:${each.service}`, each.errorShare]);
  return {
    ...Object.fromEntries(bySource),
    database: status.database.answerSeconds,
    backlog: status.backlog.bytes,
    outbox: status.outbox.events,
    stream: status.stream.waiting,
    deadLetters: status.deadLetters.count,
    webhooks: status.webhooks.pending,
    auditSealer: status.auditSealer.unsealedAgeSeconds,
    eventLoop: status.eventLoop.lagSeconds,
  };
}

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
function overrideLine(page, name, override) {
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

/** @param {Page} page */
export function cards(page) {
  const { status } = page;
  return html`<div class="oncall-cards">
    ${card(
      page,
      "database",
      [
        ["oncall.answer_time", given(status.database.answerSeconds, seconds)],
        ...lagOfStandby(status.database),
      ],
      seconds,
    )}
    ${cacheCard(page)}
    ${card(
      page,
      "backlog",
      [
        ["oncall.files", given(status.backlog.files, number)],
        ["oncall.bytes", given(status.backlog.bytes, size)],
        ["oncall.oldest", age(status.backlog)],
        ["oncall.disk_free", given(status.backlog.diskFreeBytes, size)],
        ["oncall.full_in", status.backlog.diskFreeBytes === null ? null : fullIn(status.backlog.fullInSeconds)],
      ],
      size,
    )}
    ${card(
      page,
      "outbox",
      [
        ["oncall.waiting", given(status.outbox.events, number)],
        ["oncall.oldest", status.outbox.events === 0 ? t("oncall.none") : age(status.outbox)],
        ["oncall.publishes", status.outbox.leader ? t("oncall.yes") : t("oncall.other_replica")],
      ],
      number,
    )}
    ${card(page, "stream", [["oncall.waiting", given(status.stream.waiting, number)]], number)}
    ${card(page, "deadLetters", [["oncall.count", given(status.deadLetters.count, number)]], number)}
    ${card(
      page,
      "webhooks",
      [
        ["oncall.tried_again", given(status.webhooks.pending, number)],
        ["oncall.endpoints", status.webhooks.endpoints.join(", ") || t("oncall.none")],
      ],
      number,
    )}
    ${card(
      page,
      "auditSealer",
      [
        ["oncall.entries", given(status.auditSealer.entries, number)],
        ["oncall.oldest_unsealed", status.auditSealer.unsealedAgeSeconds === 0 ? t("oncall.none") : given(status.auditSealer.unsealedAgeSeconds, duration)],
        ["oncall.last_sealed", given(status.auditSealer.lastSealedAt, dateAndTime)],
      ],
      duration,
    )}
    ${card(
      page,
      "eventLoop",
      [
        ["oncall.lag", given(status.eventLoop.lagSeconds, seconds)],
        ["oncall.p95_minute", given(status.eventLoop.p95Seconds, seconds)],
        ["oncall.max_minute", given(status.eventLoop.maxSeconds, seconds)],
      ],
      seconds,
    )}
    ${card(page, "probe", [])}
  </div>`;
}

/** @param {Page} page */
function cacheCard(page) {
  const { cache } = page.status;
  return card(page, "cache", [["oncall.ttl", duration(cache.ttlSeconds)], ["oncall.ttl_default", duration(cache.defaultTtlSeconds)]], undefined, overrideLine(page, "ttl", cache.override));
}

/**
 * @param {Page} page
 * @param {string} name
 * @param {Pair[]} pairs
 * @param {(value: number) => string} [format] of the values of its chart
 * @param {unknown} [more]
 */
function card(page, name, pairs, format, more = nothing) {
  const found = page.status[name];
  return html`<section class="oncall-card" data-card=${name} data-status=${found.status} aria-labelledby="card-${name}">
    ${cardHead(name, found)}
    ${pairs.length
      ? html`<dl class="pairs">
          ${pairs.map(([label, value]) => html`<dt>${t(label)}</dt><dd>${value ?? html`<span class="muted">${t("oncall.unknown")}</span>`}</dd>`)}
        </dl>`
      : nothing}
    ${format && pairs.length ? page.samples.chart(name, t(CHARTED[name] ?? pairs[0][0]), format) : nothing} ${more}
  </section>`;
}

/** What a chart shows, where it is not the first figure of its card. @type {Record<string, import("../lib/i18n.js").TextName>} */
const CHARTED = { backlog: "oncall.bytes", auditSealer: "oncall.oldest_unsealed" };

/**
 * Show the name of a card, its state in words, whose figures it has, and its links.
 * @param {string} name
 * @param {any} found
 */
function cardHead(name, found) {
  return html`<header>
      <h2 id="card-${name}">${word("card", name)}</h2>
      <span class="card-status">${word("card_status", found.status)}</span>
      <span class="muted scope">${word("card_scope", found.scope)}</span>
      <span class="links">
        ${found.runbook ? html`<a href=${found.runbook} target="_blank" rel="noreferrer">${t("oncall.runbook")}<span class="visually-hidden">: ${word("card", name)}</span></a>` : nothing}
        ${found.panel ? html`<a href=${found.panel} target="_blank" rel="noreferrer">Grafana<span class="visually-hidden">: ${word("card", name)}</span></a>` : nothing}
      </span>
    </header>
    ${found.error ? html`<p lang="en" class=${found.status === "unavailable" ? "error" : "muted"}>${found.error}</p>` : nothing}
    ${found.status === "stale" ? html`<p class="warning">${t("oncall.card_old", { time: clockWithSeconds(found.asOf) })}</p>` : nothing}`;
}

/**
 * Return a value in words, or null if it is not known.
 * @template Value
 * @param {Value | null} value
 * @param {(value: Value) => unknown} format
 */
function given(value, format) {
  return value === null ? null : format(value);
}

/** @param {{oldestAgeSeconds: number | null, files?: number | null}} found */
function age(found) {
  if (found.oldestAgeSeconds === null) return found.files === 0 ? t("oncall.none") : null;
  return duration(found.oldestAgeSeconds);
}

/** @param {any} database @returns {Pair[]} */
function lagOfStandby(database) {
  return database.standby === "off" ? [] : [["oncall.standby_lag", given(database.standbyLagSeconds, seconds)]];
}

/** @param {number | null} left seconds */
function fullIn(left) {
  return left === null ? t("oncall.does_not_fill") : html`<strong class="warning">${duration(left)}</strong>`;
}
