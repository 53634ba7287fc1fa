/** A person as initials in a circle and a name. */

import { text } from "../lib/i18n.js";
import { html } from "../lib/page.js";

const COLOURS = 8; // classes of styles/base.css

/** Return the first letters of the first and the last word of a name, or of an id or an address. @param {string} name */
export function initials(name) {
  const words = name.split("@")[0].split(/[\s._-]+/).filter(Boolean);
  const ends = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return ends.map((word) => [...word][0].toUpperCase()).join("") || "?";
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
