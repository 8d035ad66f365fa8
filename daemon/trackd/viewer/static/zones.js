/** The zones and lines of one stream: as the daemon has them, and changed by requests. Points are pixels of the picture. */

export const MAX_CORNERS = 256;

const SECTIONS = { zone: "zones", line: "lines" };

/** What a zone or line is known by: a zone and a line may have the same name. */
export const keyOf = ({ kind, name }) => `${kind} ${name}`;

function placesOf(message) {
  return Object.entries(SECTIONS).flatMap(([kind, section]) =>
    Object.entries(message[section] ?? {}).map(([name, points]) => ({ kind, name, points })));
}

function asMaps(places) {
  const maps = { zones: {}, lines: {} };
  for (const { kind, name, points } of places) maps[SECTIONS[kind]][name] = points;
  return maps;
}

const samePoints = (a, b) => JSON.stringify(a.points) === JSON.stringify(b.points);

/** Say in words how two sets of zones and lines differ. */
function differences(before, after) {
  const old = new Map(before.map((place) => [keyOf(place), place]));
  const gone = new Map(old);
  const added = [];
  const said = [];
  for (const place of after) {
    const was = old.get(keyOf(place));
    gone.delete(keyOf(place));
    if (was === undefined) added.push(place);
    else if (!samePoints(was, place)) said.push(`${keyOf(place)} is changed`);
  }
  for (const place of added) {
    const was = [...gone.values()].find((other) => other.kind === place.kind && samePoints(other, place));
    said.push(was === undefined ? `${keyOf(place)} is drawn` : `${keyOf(was)} is named ${place.name}`);
    if (was !== undefined) gone.delete(keyOf(was));
  }
  return [...said, ...[...gone.keys()].map((key) => `${key} is deleted`)];
}

export class Zones {
  /** @param {function} onChanged is called with the lines that say what changed, and the author */
  constructor(stream, onChanged) {
    this.stream = stream;
    this.onChanged = onChanged;
    this.places = []; // {kind, name, points}; kind is `zone` or `line`
    this.epoch = -1;
    this.number = 0; // of the last change
    this.isKnown = false;
    this.isReading = false;
    this.last = Promise.resolve(); // the edit that was sent last
  }

  /** Take a reply or the detail of an event, unless a later change is known. */
  take(message, epoch = message.epoch) {
    if (epoch < this.epoch || (epoch === this.epoch && message.number < this.number)) return;
    const isOther = this.number !== message.number || epoch !== this.epoch;
    const before = this.places;
    this.epoch = epoch;
    this.number = message.number;
    if (!isOther && this.isKnown) return;
    this.places = placesOf(message);
    const said = this.isKnown ? differences(before, this.places) : [];
    this.isKnown = true;
    this.onChanged(said, message.author ?? "");
  }

  /** Read them if the daemon's table of streams shows another change than is known. */
  async read(row, request) {
    if (this.isReading || (this.isKnown && row.epoch === this.epoch && row.zones_number === this.number)) return;
    if (!row.zones_number) {
      this.take({ epoch: row.epoch, number: 0 });
      return;
    }
    this.isReading = true;
    try {
      this.take(await request("stream.zones", { stream: this.stream }));
    } catch {
      // The next table of streams asks again.
    }
    this.isReading = false;
  }

  /**
   * Change them: `change` gets the present zones and lines and returns others. It is applied once more if another page was
   * faster. Rejected with the daemon's reason.
   */
  edit(request, change) {
    const send = async () => {
      for (let attempt = 0; ; attempt++) {
        const params = { stream: this.stream, number: this.number, author: "viewer", ...asMaps(change(this.places)) };
        try {
          this.take(await request("stream.set_zones", params));
          return;
        } catch (error) {
          if (error.code !== "zones_changed" || attempt > 0) throw error;
          this.take(await request("stream.zones", { stream: this.stream }));
        }
      }
    };
    const done = this.last.then(send);
    this.last = done.catch(() => {});
    return done;
  }
}
