/** The column beside the conversation: the customer with other cases, orders, tags, links and files. */

import { nothing } from "../vendor/lit-element/lit-element.js";
import { dateAndTime, duration, stateOf, t, text, word } from "../lib/i18n.js";
import { can } from "../lib/api.js";
import { html } from "../lib/page.js";
import { contactLink, person } from "./person.js";
import { slaClocks } from "./sla.js";
import { fileLine, searchFor } from "./timeline.js";

const KINDS = ["duplicate-of", "duplicated-by", "related", "parent-of", "child-of"];
const MOST_CASES = 8;
const MOST_CARDS = 5;

/**
 * @typedef {import("../pages/case.js").CasePage} CasePage
 * @typedef {{id: string, order: any, events: any[], shipments: any[], payments: any[]}} Card an order, or a shipment that the case names without one
 */

/** @param {CasePage} page */
export function caseAside(page) {
  const { detail: item, customer } = page;
  const others = (customer?.cases ?? []).filter((/** @type {any} */ each) => each.id !== item.id);
  const orders = ordersOf(item);
  const ofOrder = others.filter((/** @type {any} */ each) => ordersOf(each).some((/** @type {string} */ order) => orders.includes(order)));
  return html`
    ${customerSection(item, customer)} ${clockSection(item)} ${orderSection(page)} ${caseList(t("aside.same_order"), ofOrder, item)}
    ${caseList(t("aside.other_cases"), others.filter((/** @type {any} */ each) => !ofOrder.includes(each)), item)}
    <div class="below" ?data-waiting=${customer === undefined}>${tagSection(page)} ${linkSection(page, others)} ${fileSection(page)}</div>
  `;
}

/**
 * @param {any} item
 * @param {any} customer
 */
function customerSection(item, customer) {
  const name = item.customerName ?? customer?.name;
  const contacts = customer?.contacts ?? [];
  return html`<section>
    <h2>${t("column.customer")}</h2>
    ${item.customerId
      ? html`<p><a href="/console/customers/${encodeURIComponent(item.customerId)}">${person(item.customerId, name)}</a></p>
          ${name ? html`<p class="muted"><bdi>${item.customerId}</bdi></p>` : nothing}`
      : html`<p class="muted">${t("aside.no_customer")}</p>`}
    ${contacts.length
      ? html`<ul class="plain-list">
          ${contacts.map((/** @type {any} */ { kind, value, label }) => html`<li>${contactLink({ kind, value })}${label ? html` <bdi class="muted">${label}</bdi>` : nothing}</li>`)}
        </ul>`
      : nothing}
    <p class="muted">${t("aside.channel")} <bdi>${word("channel", item.channel)}</bdi>${customer?.nextCursor ? html` · ${t("aside.many_cases")}` : nothing}</p>
  </section>`;
}

/** @param {any} item */
function clockSection({ sla }) {
  const clocks = slaClocks(sla, Date.now());
  if (!clocks.length) return nothing;
  return html`<section>
    <h2>${t("aside.clocks")}</h2>
    ${clocks.map((clock) => html`<p>${clock}</p>`)}
  </section>`;
}

/** @param {CasePage} page */
function orderSection(page) {
  const cards = cardsOf(page);
  if (!cards.length) return nothing;
  return html`<section>
    <h2>${t("aside.references")}</h2>
    ${cards.slice(0, MOST_CARDS).map((card) => orderCard(card, page))}
    ${cards.length > MOST_CARDS ? html`<p class="muted">${cards.slice(MOST_CARDS).map(({ id }) => html`<a href=${searchFor(id)}><bdi>${id}</bdi></a> `)}</p>` : nothing}
  </section>`;
}

/** Return what the case refers to: its orders with their parts, and payments and shipments without an order. @param {CasePage} page @returns {Card[]} */
function cardsOf({ detail, entries }) {
  /** @type {Map<string, Card>} */
  const cards = new Map();
  const cardOf = (/** @type {string} */ id) => {
    if (!cards.has(id)) cards.set(id, { id, order: null, events: [], shipments: [], payments: [] });
    return /** @type {Card} */ (cards.get(id));
  };
  for (const order of ordersOf(detail)) cardOf(order);
  const given = detail.context
    .filter((/** @type {any} */ each) => each.type === "shipment" || each.type === "payment")
    .map((/** @type {any} */ { trackingUrl: _, ...each }) => each); // anyone may have written the address
  const found = [...entries.filter(({ kind }) => kind === "source").map(({ data }) => data), ...given];
  const known = new Set();
  const orders = new Set(ordersOf(detail));
  /** @type {{data: any, order: string}[]} */
  const events = [];
  for (const data of found) {
    const own = text(data[`${text(data.type)}Id`] ?? data.id);
    const order = text(data.orderId ?? data.payload?.orderId);
    if (order || data.type === "order") orders.add(order || own);
    if (data.type === "order") cardOf(order || own).order = data;
    else if (data.type === "order-event") events.push({ data, order });
    else if ((data.type === "shipment" || data.type === "payment") && own && !known.has(`${data.type} ${own}`)) {
      known.add(`${data.type} ${own}`);
      cardOf(order || own)[data.type === "shipment" ? "shipments" : "payments"].push(data);
    }
  }
  const only = orders.size === 1 ? [...orders][0] : ""; // the order of the events that name none
  for (const { data, order } of events) if (order || only) cardOf(order || only).events.push(data);
  return [...cards.values()].filter(({ id }) => id);
}

/** @param {Card} card @param {CasePage} page */
function orderCard({ id, order, events, shipments, payments }, page) {
  const { sources, entries, collected } = page;
  const last = events[events.length - 1];
  const state = sources.order;
  const rows = [
    order?.total ? row("aside.total", order.total) : nothing,
    ...payments.map(({ amount, status }) => row("entry.payment", [text(amount), stateOf(status)].filter(Boolean).join(" · "))),
    ...shipments.flatMap((shipment) => shipmentRows(shipment, id, entries)),
    last ? row("aside.last_event", html`${stateOf(last.eventType ?? last.status)} <span class="muted">${dateAndTime(last.timestamp)}</span>`) : nothing,
  ];
  return html`<article class="order-card" aria-busy=${!collected}>
    <h3>
      <a href=${searchFor(id)} title=${t("aside.search_id")}><bdi>${id}</bdi></a>
      ${order?.status ? html`<bdi class="pill">${stateOf(order.status)}</bdi>` : nothing}
    </h3>
    <dl class="pairs">${rows}</dl>
    ${order && state?.ageSeconds !== null && state?.ageSeconds !== undefined ? html`<p class="muted age" data-status=${state.status}>${t("aside.as_of", { time: duration(state.ageSeconds) })}</p>` : nothing}
  </article>`;

  /** @param {any} shipment @param {string} card @param {import("./timeline.js").Entry[]} all */
  function shipmentRows(shipment, card, all) {
    const own = text(shipment.shipmentId ?? shipment.id);
    const number = text(shipment.trackingNumber);
    const isOwn = (/** @type {any} */ { shipmentId, trackingNumber }) => text(shipmentId) === own || (number && text(trackingNumber) === number);
    const carrier = shipment.carrier ?? all.findLast(({ data }) => data.payload?.carrier && isOwn(data.payload))?.data.payload.carrier;
    const isLink = /^https?:\/\//.test(text(shipment.trackingUrl));
    return [
      row("entry.shipment", html`${own === card ? nothing : html`<bdi>${own}</bdi> `}${shipment.status ? html`<bdi class="pill">${stateOf(shipment.status)}</bdi>` : nothing}`),
      carrier ? row("aside.carrier", html`<bdi>${text(carrier)}</bdi>`) : nothing,
      number
        ? row(
            "aside.tracking",
            html`<a href=${isLink ? shipment.trackingUrl : searchFor(number)} target=${isLink ? "_blank" : nothing} rel=${isLink ? "noopener noreferrer" : nothing}><bdi>${number}</bdi></a>
              <button class="plain copy" aria-label=${t("aside.copy_one", { text: number })} @click=${() => page.run("copy", number)}>${t("audit.copy")}</button>`,
          )
        : nothing,
    ];
  }
}

/** @param {import("../lib/i18n.js").TextName} name @param {unknown} value */
function row(name, value) {
  return html`<dt>${t(name)}</dt><dd>${value}</dd>`;
}

/** @param {CasePage} page */
function fileSection(page) {
  const files = page.detail.attachments;
  if (!files.length) return nothing;
  return html`<section>
    <h2>${t("files.title")}</h2>
    ${files.map((/** @type {any} */ file) => fileLine(file, () => page.showPreview(file), page.mayDeleteFiles ? () => page.run("deleteFile", file) : undefined))}
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
  const form = /** @type {HTMLElement} */ (event.target).closest(".case-aside")?.querySelector(".link-form");
  const [box, kind] = ["case", "kind"].map((name) => /** @type {HTMLInputElement | null | undefined} */ (form?.querySelector(`[name=${name}]`)));
  if (box) box.value = caseId;
  kind?.focus();
}

/** @param {CasePage} page */
function tagSection(page) {
  const item = page.detail;
  const writable = can("cases:write");
  if (!writable && !item.tags.length) return nothing;
  const add = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const tag = String(new FormData(form).get("tag")).trim();
    form.reset();
    if (tag && !item.tags.includes(tag)) page.run("changeTags", (tags) => [...new Set([...tags, tag])]);
  };
  return html`<section>
    <h2>${t("aside.tags")}</h2>
    <p class="tags">
      ${item.tags.map(
        (/** @type {string} */ tag) =>
          html`<span class="tag"
            ><bdi>${tag}</bdi>${writable
              ? html`<button class="plain" aria-label=${t("aside.remove_tag", { tag })} @click=${() => page.run("changeTags", (tags) => tags.filter((each) => each !== tag))}>×</button>`
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
 * @param {CasePage} page
 * @param {any[]} others
 */
function linkSection(page, others) {
  const { detail: item, linkFailure: failure } = page;
  const writable = can("cases:write");
  if (!writable && !item.links.length) return nothing;
  const subjects = new Map(others.map((each) => [each.id, each.subject]));
  const add = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const caseId = String(given.get("case")).trim().split(/[/?#]/).filter(Boolean).pop() ?? "";
    if (caseId) page.run("addLink", String(given.get("kind")), caseId);
  };
  return html`<section>
    <h2>${t("aside.links")}</h2>
    <ul class="plain-list">
      ${item.links.map(
        (/** @type {any} */ each) =>
          html`<li>
            <span class="muted">${word("link", each.kind)}</span>
            <a href="/console/cases/${encodeURIComponent(each.caseId)}"><bdi>${subjects.get(each.caseId) ?? each.caseId.slice(0, 8)}</bdi></a>
            ${writable ? html`<button class="plain" aria-label=${t("aside.remove_link", { id: each.caseId })} @click=${() => page.run("removeLink", each)}>×</button>` : nothing}
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
