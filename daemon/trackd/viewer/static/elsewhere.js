/** The fleet: its members, and a link for each stream that another one has. */

import { make, setText } from "./dom.js";

export class Elsewhere {
  constructor(list) {
    this.list = list;
    this.head = make("p", { class: "fleet-head" });
    this.links = new Map(); // stream -> its row
    this.more = make("p", { class: "fleet-head" });
  }

  /** @param fleet what the daemon knows; undefined where it is in no fleet */
  update(fleet) {
    if (fleet === undefined || fleet === null) return;
    if (!this.head.isConnected) this.list.append(this.head, this.more);
    const counts = fleet.members.map(({ member, streams }) => `${member} ${streams}`).join(", ");
    setText(this.head, `member ${fleet.member} of the fleet: ${counts}`);
    const known = new Set(fleet.streams.map(({ stream, member, url }) => `${stream}\n${member}\n${url}`));
    for (const [key, row] of this.links) {
      if (known.has(key)) continue;
      row.remove();
      this.links.delete(key);
    }
    for (const { stream, member, url } of fleet.streams) {
      const key = `${stream}\n${member}\n${url}`;
      if (this.links.has(key)) continue;
      const row = this.row(stream, member, url);
      this.links.set(key, row);
      this.list.insertBefore(row, this.more);
    }
    setText(this.more, fleet.more > 0 ? `… and ${fleet.more} more` : "");
  }

  row(stream, member, url) {
    const state = member === null ? "no owner" : url === null ? `${member}, no page` : member;
    const text = [make("span", { class: "tile-name", text: stream }), make("span", { class: "tile-state", text: state })];
    if (url === null) return make("div", { class: "elsewhere tile-text" }, ...text);
    return make("a", { class: "elsewhere tile-text", href: `${url}/#${encodeURIComponent(stream)}` }, ...text);
  }
}
