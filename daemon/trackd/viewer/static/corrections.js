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
