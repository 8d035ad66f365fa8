/** The other members of a fleet: a head line, and one row for each of their streams, with a link to the member's page. */

import { byId, make, setHidden, setText } from "./dom.js";

const STREAM = "#stream=";

/** The stream that an address names, as in http://host:9570/#stream=cam; null if it names none. */
export function streamOfAddress(hash) {
  if (!hash.startsWith(STREAM)) return null;
  try {
    return decodeURIComponent(hash.slice(STREAM.length));
  } catch {
    return null;
  }
}

/** The address of a stream on a member's page; null unless it is one of http or https. */
export function addressOf(page, stream) {
  if (typeof page !== "string") return null;
  let url;
  try {
    url = new URL(page);
  } catch {
    return null;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  url.hash = STREAM + encodeURIComponent(stream);
  return url.href;
}

const streams = (n) => `${n} ${n === 1 ? "stream" : "streams"}`;

/** The head line: this member, all members with the number of their streams, and what is wrong. */
export function headLine({ member, away, members, more_members: more, unowned }) {
  const parts = [`member ${member}`];
  if (members.length > 0) {
    const named = members.map(([name, n]) => `${name} ${streams(n)}`);
    if (more > 0) named.push(`… and ${more} more`);
    parts.push(`fleet: ${named.join(", ")}`);
  }
  if (unowned > 0) parts.push(`${streams(unowned)} without an owner`);
  if (away) parts.push("the fleet's store cannot be reached; this is its last known state");
  return parts.join(" · ");
}

/** Make the row of a stream: a link where its member has a page. */
function rowOf(stream, member, page) {
  const address = member === null ? null : addressOf(page, stream);
  const text = member === null ? "no owner" : address === null ? `${member}, no page` : member;
  const parts = [make("span", { class: "tile-name", text: stream }), make("span", { class: "tile-state", text })];
  return make("li", {}, address === null ? make("span", { class: "other" }, ...parts)
    : make("a", { class: "other", href: address, rel: "noreferrer" }, ...parts));
}

export class Fleet {
  constructor() {
    this.head = byId("fleet");
    this.list = byId("others");
    this.rows = new Map(); // stream -> [what is shown, its element]
    this.last = make("li", { class: "more" });
    this.shown = "";
  }

  /** Whether the list has streams of other members. */
  get hasRows() {
    return this.rows.size > 0;
  }

  /** Show the fleet of a list of streams; undefined where the daemon is in none. */
  update(fleet) {
    setHidden(this.head, fleet === undefined);
    document.body.classList.toggle("in-fleet", fleet !== undefined);
    setText(this.head, fleet === undefined ? "" : headLine(fleet));
    const { streams: rows, pages, more_streams: more } = fleet ?? { streams: [], pages: {}, more_streams: 0 };
    const shown = JSON.stringify([rows, pages, more]);
    if (shown === this.shown) return;
    this.shown = shown;
    const before = this.rows;
    this.rows = new Map();
    for (const [stream, member] of rows) {
      const page = member === null ? null : pages[member];
      const key = JSON.stringify([member, page]);
      const old = before.get(stream);
      this.rows.set(stream, old?.[0] === key ? old : [key, rowOf(stream, member, page)]);
    }
    const elements = [...this.rows.values()].map(([, element]) => element);
    setText(this.last, `… and ${more} more`);
    if (more > 0) elements.push(this.last);
    const kept = new Set(elements);
    for (const element of [...this.list.children]) if (!kept.has(element)) element.remove();
    // Elements that stay in their place are not touched, so that a link keeps the focus.
    elements.forEach((element, at) => {
      if (this.list.children[at] !== element) this.list.insertBefore(element, this.list.children[at] ?? null);
    });
    setHidden(this.list, elements.length === 0);
  }
}
