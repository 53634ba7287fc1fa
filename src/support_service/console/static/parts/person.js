/** People: as initials in a circle and a name, as items of a menu, and how they are reached. */

import { agent } from "../lib/api.js";
import { t, text } from "../lib/i18n.js";
import { html } from "../lib/page.js";

const COLOURS = 8; // classes of styles/base.css

/** Return the first letters of the first and the last word of a name, or of an id or an address. @param {string} name */
export function initials(name) {
  const words = name.split("@")[0].split(/[\s._-]+/).filter(Boolean);
  const ends = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return ends.map((word) => [...word][0].toUpperCase()).join("") || "?";
}

/** Return the name of a person in the names of an answer; ids may be names of members that every object has. @param {Record<string, string> | undefined} names @param {unknown} id */
export function nameIn(names, id) {
  return names && Object.hasOwn(names, text(id)) ? names[text(id)] : undefined;
}

/**
 * Show initials in a circle, in the colour of the id, and the name.
 * @param {unknown} given the id
 * @param {string | null} [name]
 */
export function person(given, name) {
  const id = text(given);
  const colour = [...id].reduce((sum, character) => (31 * sum + (character.codePointAt(0) ?? 0)) % 9973, 0) % COLOURS;
  const shown = name || id;
  return html`<span class="person"><span class="avatar colour-${colour}" aria-hidden="true">${initials(shown)}</span> <bdi>${shown}</bdi></span>`;
}

/**
 * Return oneself, nobody, and the colleagues by name, as items of a menu with what each has to do.
 * @param {import("../lib/agents.js").AgentEntry[]} people
 * @param {string} nobody the value for nobody
 * @returns {import("./choice-menu.js").Item[]}
 */
export function peopleItems(people, nobody) {
  const own = agent();
  const items = people.map(({ id, displayName, away, open, atRisk }) => {
    const load = open === null ? "" : t("person.load", { open, atRisk: atRisk ?? 0 });
    return { value: id, text: displayName ?? id, detail: [id === own ? t("person.me") : "", away ? t("person.away") : "", load].filter(Boolean).join(" · ") };
  });
  items.sort((one, other) => one.text.localeCompare(other.text));
  const mine = items.find(({ value }) => value === own) ?? { value: own, text: own, detail: t("person.me") };
  return [mine, { value: nobody, text: t("case.unassigned") }, ...items.filter((each) => each !== mine)];
}

/** Return a contact as a link: nothing in it adds a receiver or a text. @param {{kind: string, value: unknown}} contact */
export function contactLink({ kind, value }) {
  const shown = text(value);
  if (kind === "email") return html`<a href="mailto:${encodeURIComponent(shown).replaceAll("%40", "@")}"><bdi>${shown}</bdi></a>`;
  if (kind === "phone") return html`<a href="tel:${shown.replace(/[^+\d]/g, "")}"><bdi>${shown}</bdi></a>`;
  return html`<bdi>${shown}</bdi>`;
}
