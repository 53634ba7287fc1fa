/** Commands that are shown to be copied into a shell. */

const PLAIN = /^[\p{L}\p{N}_.:@%+,/-]+$/u;
const INVISIBLE = /\p{C}/u; // control characters and marks that change the direction of text

/**
 * Return a text as one word of a command: bash and zsh read it as exactly this text, whatever a client has put into it.
 * @param {string} text
 */
export function shellWord(text) {
  if (PLAIN.test(text)) return text;
  if (!INVISIBLE.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  return `$'${[...text].map(escaped).join("")}'`;
}

/** @param {string} character */
function escaped(character) {
  if (INVISIBLE.test(character)) return `\\U${(character.codePointAt(0) ?? 0).toString(16).padStart(8, "0")}`;
  return /[\\']/.test(character) ? `\\${character}` : character;
}
