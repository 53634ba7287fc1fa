/** Who uses the console: the caller of the API, its permissions, and the name that its claims have. */

import { request } from "./api.js";
import { load, save } from "./storage.js";

/** @type {{name: string, role: string, subject: string | null, teams: string[], permissions: Record<string, string>}} */
export let me = { name: "", role: "", subject: null, teams: [], permissions: {} };

export async function loadMe() {
  me = (await request("/support/me")).data;
}

/** @param {string} permission */
export function can(permission) {
  return permission in me.permissions;
}

/** Whether anyone may use the service: `SUPPORT_AUTH=open`. */
export function isOpen() {
  return document.documentElement.dataset.auth === "open";
}

/** The agent that claimed cases are assigned to. Without authentication, users name themselves. */
export function agent() {
  return me.subject ?? (isOpen() ? load("working-as") : null) ?? me.name;
}

/** @param {string} name */
export function workAs(name) {
  save("working-as", name.trim() || null);
}
