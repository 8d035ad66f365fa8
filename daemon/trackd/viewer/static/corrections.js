/** Corrections of identities: sent to the daemon, and put into words when they are confirmed. */

const CONFIRMED_BY_EVENT_MS = 400;
const MAX_KNOWN = 200;

function undone({ undoes, restored, replaced }) {
  const what = undoes === undefined ? "the last correction is undone" : `correction ${undoes} is undone`;
  if (restored === undefined) return what;
  return `${what}: track ${restored} is live again${replaced === undefined ? "" : ` in place of track ${replaced}`}`;
}

function described(detail) {
  const { action, tracks, into, new_id: newId, name } = detail;
  const [first, second] = tracks ?? [];
  switch (action) {
    case "rename": return name ? `track ${first} is named ${name}` : `track ${first} has no name`;
    case "swap": return `tracks ${first} and ${second} are swapped`;
    case "merge": return `track ${first} is merged into ${into ?? second}`;
    case "end": return `track ${first} is ended`;
    case "new_id": return newId === undefined ? `track ${first} has a new id` : `track ${first} has the new id ${newId}`;
    case "undo": return undone(detail);
    default: return action;
  }
}

/**
 * The tracks that a track is most likely to be corrected with. Swapped: the nearest ones. Merged: two tracks of one frame are
 * two animals, so one of them is lost; the latest loss comes first.
 */
export function partnersOf(settlement, lanes, id) {
  if (id < 0 || settlement === null) return { swap: [], merge: [] };
  const present = [...settlement.ids].filter((other) => other >= 0 && other !== id);
  const lost = [...lanes.values()]
    .filter((lane) => lane.isLost && lane.id !== id && !present.includes(lane.id))
    .sort((a, b) => b.span.from - a.span.from).map((lane) => lane.id);
  const row = settlement.rowOf(id);
  if (row < 0) return { swap: present, merge: [...present].sort((a, b) => b - a) };
  const distance = (other) => {
    const at = settlement.rowOf(other);
    return Math.hypot(settlement.centreX(at) - settlement.centreX(row), settlement.centreY(at) - settlement.centreY(row));
  };
  return { swap: present.sort((a, b) => distance(a) - distance(b)), merge: lost };
}

export class Corrections {
  constructor(request, log) {
    this.request = request;
    this.log = log;
    this.known = new Set(); // stream, epoch and number of those that are in the log
  }

  isNew(stream, epoch, number) {
    const key = `${stream}/${epoch}/${number}`;
    if (this.known.has(key)) return false;
    this.known.add(key);
    if (this.known.size > MAX_KNOWN) this.known.delete(this.known.values().next().value);
    return true;
  }

  /** A correction that the daemon announced, of this page or of another client. */
  announced(stream, epoch, detail) {
    if (!this.isNew(stream, epoch, detail.number)) return;
    const author = detail.author && detail.author !== "viewer" ? ` (${detail.author})` : "";
    this.log.add(`${stream}: correction ${detail.number}: ${described(detail)}${author}`, "good");
  }

  /** Send a correction. Its event confirms it, or the reply if no event comes. */
  async send(stream, action, params) {
    try {
      const result = await this.request("stream.correct", { stream, action, author: "viewer", ...params });
      const { track, tracks, ...rest } = params;
      const detail = { action, tracks: tracks ?? (track === undefined ? [] : [track]), ...rest, number: result.number };
      setTimeout(() => this.announced(stream, result.epoch, detail), CONFIRMED_BY_EVENT_MS);
    } catch (error) {
      this.log.add(`${stream}: ${action.replace("_", " ")} failed: ${error.message}`, "bad");
    }
  }
}
