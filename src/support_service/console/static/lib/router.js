/** Pages by path, without a reload between them. The address holds the state that a link can share. */

/** @typedef {{page: string, id: string}} Place */

const PLACES = /** @type {[RegExp, string][]} */ ([
  [/^\/console\/?$/, "queue"],
  [/^\/console\/cases\/([^/]+)$/, "case"],
  [/^\/console\/customers\/([^/]+)$/, "customer"],
  [/^\/console\/oncall$/, "oncall"],
  [/^\/console\/audit$/, "audit"],
  [/^\/console\/sign-in$/, "sign-in"],
]);
const MOVED = "console:moved";

/**
 * Return the page that a path names, or null.
 * @param {string} path
 * @returns {Place | null}
 */
export function placeOf(path) {
  for (const [pattern, page] of PLACES) {
    const found = pattern.exec(path);
    if (found) return { page, id: decode(found[1] ?? "") };
  }
  return null;
}

/**
 * Show another address. `replace` leaves no entry in the history.
 * @param {string} url
 * @param {{replace?: boolean}} [options]
 */
export function go(url, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  dispatchEvent(new Event(MOVED));
}

/**
 * Call a function whenever the address changes, and handle clicks on links to pages.
 * @param {() => void} moved
 */
export function watchAddress(moved) {
  addEventListener("popstate", moved);
  addEventListener(MOVED, moved);
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!placeOf(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}

/** @param {string} segment */
function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
