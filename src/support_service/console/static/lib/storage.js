/** What the console keeps in the browser: drafts and preferences. Private windows may refuse it; then nothing is kept. */

const PREFIX = "support-console:";
const PREFERENCES = ["language", "working-as", "theme", "sound", "send-then"];

/** @param {string} name */
export function load(name) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Keep a value; null removes it. Return whether the browser did: it may be full, or keep nothing.
 * @param {string} name
 * @param {unknown} value
 */
export function save(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Return what follows a prefix in the names of kept values. @param {string} prefix */
export function namesAfter(prefix) {
  try {
    const start = PREFIX + prefix;
    return Object.keys(localStorage).flatMap((name) => (name.startsWith(start) ? [name.slice(start.length)] : []));
  } catch {
    return [];
  }
}

/** Remove everything but preferences: drafts have what customers and agents wrote. */
export function forgetDrafts() {
  try {
    for (const name of Object.keys(localStorage)) {
      if (name.startsWith(PREFIX) && !PREFERENCES.includes(name.slice(PREFIX.length))) localStorage.removeItem(name);
    }
  } catch {
    // There is nothing to remove.
  }
}
