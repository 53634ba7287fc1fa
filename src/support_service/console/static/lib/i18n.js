/** The texts of the console in the language of the browser, or in the one that its user chose. */

import { load, save } from "./storage.js";

/** @typedef {keyof typeof import("../i18n/en.js").texts} TextName */

export const LANGUAGES = { en: "English", vi: "Tiếng Việt" };

/** @type {"en" | "vi"} */
export let language = "en";
/** @type {Record<string, string>} */
let texts = {};

/** Load the texts. They come with the first page, so that no page shows names instead of texts. */
export async function loadTexts() {
  const chosen = load("language") ?? navigator.languages.find((each) => each.slice(0, 2) in LANGUAGES)?.slice(0, 2);
  language = chosen === "vi" ? "vi" : "en";
  texts = (await (language === "vi" ? import("../i18n/vi.js") : import("../i18n/en.js"))).texts;
  document.documentElement.lang = language;
}

/** @param {string} chosen */
export function chooseLanguage(chosen) {
  save("language", chosen);
  location.reload();
}

/**
 * Return a text. `{name}` is replaced by a value; of `{n|one|many}` the part for the number n remains.
 * @param {TextName} name
 * @param {Record<string, string | number>} [values]
 */
export function t(name, values = {}) {
  const text = texts[name] ?? name;
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, key, one, many) => {
    if (one === undefined) return String(values[key] ?? "");
    return values[key] === 1 ? one : many;
  });
}

/** Return the words of the API that a group has texts for. @param {string} group */
export function wordsOf(group) {
  const prefix = `${group}.`;
  return Object.keys(texts).flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []));
}

/**
 * Return the text for a word of the API such as a status, or the word itself.
 * @param {string} group
 * @param {string} word
 */
export function word(group, word) {
  return texts[`${group}.${word}`] ?? word;
}
