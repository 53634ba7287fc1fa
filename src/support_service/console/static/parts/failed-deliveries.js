/** Dead letters and failed webhook deliveries: what was given up, to be replayed or dropped. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { dateAndTime, t } from "../lib/i18n.js";
import { can } from "../lib/api.js";
import { html } from "../lib/page.js";

/** @typedef {import("../pages/oncall.js").OnCallPage} Page */

const KINDS = {
  letters: { title: "letters.title", none: "letters.none", permission: "dead-letters:write" },
  deliveries: { title: "deliveries.title", none: "deliveries.none", permission: "webhooks:write" },
};

/**
 * @param {Page} page
 * @param {"letters" | "deliveries"} kind
 */
export function failedDeliveries(page, kind) {
  const list = page.lists[kind];
  const texts = /** @type {{title: import("../lib/i18n.js").TextName, none: import("../lib/i18n.js").TextName, permission: string}} */ (KINDS[kind]);
  return html`<section class="failed-deliveries" data-list=${kind} aria-labelledby="list-${kind}">
    <h2 id="list-${kind}">${t(texts.title)}</h2>
    ${list.failure ? html`<p class="error">${list.failure}</p>` : nothing}
    ${list.items.length || list.failure ? nothing : html`<p class="muted">${t(texts.none)}</p>`}
    <ol>
      ${repeat(
        list.items,
        ({ id }) => id,
        (item) =>
          html`<li>
            ${kind === "letters" ? letter(item) : delivery(item)} ${can(texts.permission) ? actions(page, kind, item) : nothing}
          </li>`,
      )}
    </ol>
    ${list.more ? html`<p class="muted">${t("failed_deliveries.more", { n: list.items.length })}</p>` : nothing}
  </section>`;
}

/** @param {any} item */
function letter(item) {
  return html`<p class="meta">
      <bdi>${item.id}</bdi> <span class="muted">${t("failed_deliveries.tries", { n: item.tries })}</span>
      ${item.at ? html`<time datetime=${item.at}>${dateAndTime(item.at)}</time>` : nothing}
    </p>
    <p dir="auto">${item.reason}</p>
    <details>
      <summary>${t("letters.event")}</summary>
      <code tabindex="0">${item.event}${item.truncated ? "…" : ""}</code>
    </details>`;
}

/** @param {any} item */
function delivery(item) {
  return html`<p class="meta">
      <strong><bdi>${item.endpoint}</bdi></strong> <bdi>${item.type}</bdi> <span class="muted">#${item.id}, ${t("failed_deliveries.tries", { n: item.tries })}</span>
      <time datetime=${item.due}>${dateAndTime(item.due)}</time>
    </p>
    ${item.reason ? html`<p dir="auto">${item.reason}</p>` : nothing}`;
}

/**
 * Offer to replay or to drop; to drop needs a second press, because what is dropped is lost.
 * @param {Page} page
 * @param {"letters" | "deliveries"} kind
 * @param {any} item
 */
function actions(page, kind, item) {
  const list = page.lists[kind];
  const name = `${kind}:${item.id}`;
  const which = html`<span class="visually-hidden">: ${item.id}</span>`;
  if (page.confirming === name) {
    return html`<p class="row">
      <button class="danger" ?disabled=${page.busy} @click=${() => page.handle(list, item.id, "drop")}>${t("failed_deliveries.drop_for_good")}${which}</button>
      <button @click=${() => page.set({ confirming: "" })}>${t("app.cancel")}</button>
    </p>`;
  }
  return html`<p class="row">
    <button ?disabled=${page.busy} @click=${() => page.handle(list, item.id, "replay")}>${t("failed_deliveries.replay")}${which}</button>
    <button class="plain" ?disabled=${page.busy} @click=${() => page.ask(name)}>${t("failed_deliveries.drop")}${which}</button>
  </p>`;
}
