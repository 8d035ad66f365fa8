/** The list of events: what the daemon announces and what became of the user's acts. A live region for screen readers. */

import { make } from "./dom.js";

const MAX_ENTRIES = 100;

export class Log {
  constructor(list) {
    this.list = list;
  }

  /** Add a line. `level` is "", `good`, `warn` or `bad`. */
  add(text, level = "") {
    const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
    this.list.prepend(make("li", { class: level || null }, make("time", { text: time }), make("span", { text })));
    if (this.list.children.length > MAX_ENTRIES) this.list.lastChild.remove();
  }
}
