/** The column beside the timeline: the customer with other cases, tags and links. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { t, text, word } from "../lib/i18n.js";
import { can } from "../lib/api.js";
import { html, wide } from "../lib/page.js";

const KINDS = ["duplicate-of", "duplicated-by", "related", "parent-of", "child-of"];
const MOST_CASES = 8;

/**
 * @typedef {{item: any, customer: any, change: (changes: object) => void, addLink: (kind: string, caseId: string) => void,
 *   removeLink: (id: string) => void, failure: string}} Shown
 */

/** @param {Shown} shown */
export function caseAside(shown) {
  const { item, customer } = shown;
  const others = (customer?.cases ?? []).filter((/** @type {any} */ each) => each.id !== item.id);
  const orders = ordersOf(item);
  const ofOrder = others.filter((/** @type {any} */ each) => ordersOf(each).some((/** @type {string} */ order) => orders.includes(order)));
  return html`
    <aside class="case-aside" aria-label=${t("aside.title")}>
     <details ?open=${wide.matches}>
      <summary>${t("aside.title")}</summary>
      ${description(item)} ${customerSection(item, customer)} ${references(customer, item)}
      ${caseList(t("aside.same_order"), ofOrder, item)}
      ${caseList(t("aside.other_cases"), others.filter((/** @type {any} */ each) => !ofOrder.includes(each)), item)}
      ${tagSection(shown)} ${linkSection(shown, others)}
      ${can("audit:read") ? html`<section><p><a href="/console/audit?case=${encodeURIComponent(item.id)}">${t("aside.audit")}</a></p></section>` : nothing}
     </details>
    </aside>
  `;
}

/** @param {any} item */
function description(item) {
  if (!item.description) return nothing;
  return html`<section><h2>${t("aside.description")}</h2><div class="text" dir="auto">${item.description}</div></section>`;
}

/**
 * @param {any} item
 * @param {any} customer
 */
function customerSection(item, customer) {
  return html`<section>
    <h2>${t("column.customer")}</h2>
    ${item.customerId
      ? html`<p><a href="/console/customers/${encodeURIComponent(item.customerId)}"><bdi>${item.customerId}</bdi></a></p>`
      : html`<p class="muted">${t("aside.no_customer")}</p>`}
    <p class="muted">${t("aside.channel")} <bdi>${item.channel}</bdi>${customer?.nextCursor ? html` · ${t("aside.many_cases")}` : nothing}</p>
  </section>`;
}

/**
 * @param {any} customer
 * @param {any} item
 */
function references(customer, item) {
  const found = customer?.references ?? { orders: ordersOf(item), payments: [], shipments: [] };
  const rows = Object.entries(found).filter(([, ids]) => /** @type {string[]} */ (ids).length);
  if (!rows.length) return nothing;
  return html`<section>
    <h2>${t("aside.references")}</h2>
    <dl class="pairs">
      ${rows.map(
        ([kind, ids]) => html`<dt>${word("reference", kind)}</dt><dd>${/** @type {string[]} */ (ids).slice(0, MOST_CASES).map((id) => html`<bdi>${id}</bdi> `)}</dd>`,
      )}
    </dl>
  </section>`;
}

/**
 * @param {string} title
 * @param {any[]} cases
 * @param {any} item
 */
function caseList(title, cases, item) {
  if (!cases.length) return nothing;
  const linked = item.links.map((/** @type {any} */ link) => link.caseId);
  return html`<section>
    <h2>${title}</h2>
    <ul class="plain-list">
      ${cases.slice(0, MOST_CASES).map(
        (each) =>
          html`<li>
            <a href="/console/cases/${encodeURIComponent(each.id)}"><bdi>${each.subject}</bdi></a>
            <span class="pill" data-status=${each.status}>${word("status", each.status)}</span>
            ${can("cases:write") && !linked.includes(each.id)
              ? html`<button class="plain" aria-label=${t("aside.link_one", { subject: each.subject })} @click=${(/** @type {Event} */ event) => choose(event, each.id)}>${t("aside.link")}</button>`
              : nothing}
          </li>`,
      )}
    </ul>
  </section>`;
}

/** Put a case into the form for links, which asks for the kind. @param {Event} event @param {string} caseId */
function choose(event, caseId) {
  const form = /** @type {HTMLElement} */ (event.target).closest("aside")?.querySelector(".link-form");
  const [box, kind] = ["case", "kind"].map((name) => /** @type {HTMLInputElement | null | undefined} */ (form?.querySelector(`[name=${name}]`)));
  if (box) box.value = caseId;
  kind?.focus();
}

/** @param {Shown} shown */
function tagSection({ item, change }) {
  const writable = can("cases:write");
  if (!writable && !item.tags.length) return nothing;
  const add = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const tag = String(new FormData(form).get("tag")).trim();
    form.reset();
    if (tag && !item.tags.includes(tag)) change({ tags: [...item.tags, tag] });
  };
  return html`<section>
    <h2>${t("aside.tags")}</h2>
    <p class="tags">
      ${item.tags.map(
        (/** @type {string} */ tag) =>
          html`<span class="tag"
            ><bdi>${tag}</bdi>${writable
              ? html`<button class="plain" aria-label=${t("aside.remove_tag", { tag })} @click=${() => change({ tags: item.tags.filter((/** @type {string} */ each) => each !== tag) })}>×</button>`
              : nothing}</span
          >`,
      )}
    </p>
    ${writable
      ? html`<form class="row" @submit=${add}>
          <input name="tag" maxlength="64" aria-label=${t("aside.new_tag")} placeholder=${t("aside.new_tag")} autocomplete="off" />
          <button>${t("aside.add")}</button>
        </form>`
      : nothing}
  </section>`;
}

/**
 * @param {Shown} shown
 * @param {any[]} others
 */
function linkSection({ item, addLink, removeLink, failure }, others) {
  const writable = can("cases:write");
  if (!writable && !item.links.length) return nothing;
  const subjects = new Map(others.map((each) => [each.id, each.subject]));
  const add = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const caseId = String(given.get("case")).trim().split(/[/?#]/).filter(Boolean).pop() ?? "";
    if (caseId) addLink(String(given.get("kind")), caseId);
  };
  return html`<section>
    <h2>${t("aside.links")}</h2>
    <ul class="plain-list">
      ${item.links.map(
        (/** @type {any} */ each) =>
          html`<li>
            <span class="muted">${word("link", each.kind)}</span>
            <a href="/console/cases/${encodeURIComponent(each.caseId)}"><bdi>${subjects.get(each.caseId) ?? each.caseId.slice(0, 8)}</bdi></a>
            ${writable ? html`<button class="plain" aria-label=${t("aside.remove_link", { id: each.caseId })} @click=${() => removeLink(each.id)}>×</button>` : nothing}
          </li>`,
      )}
    </ul>
    ${writable
      ? html`<form class="link-form" @submit=${add}>
          <select name="kind" aria-label=${t("aside.link_kind")}>
            ${KINDS.map((kind) => html`<option value=${kind}>${word("link", kind)}</option>`)}
          </select>
          <input name="case" list="other-cases" required aria-label=${t("aside.link_case")} placeholder=${t("aside.link_case")} autocomplete="off" />
          <datalist id="other-cases">${others.map((each) => html`<option value=${each.id}>${each.subject}</option>`)}</datalist>
          <button>${t("aside.add")}</button>
        </form>`
      : nothing}
    ${failure ? html`<p class="error" role="alert">${failure}</p>` : nothing}
  </section>`;
}

/** @param {any} item */
function ordersOf(item) {
  return item.context
    .filter((/** @type {any} */ each) => each.orderId || (each.type === "order" && each.id))
    .map((/** @type {any} */ each) => text(each.orderId ?? each.id));
}
