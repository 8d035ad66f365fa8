// What an `identity` event says, in words.

/** One line for the detail of an event. */
export function identityText({ event, tracks, into, name, evidence }) {
  const odds = `odds e^${evidence.toFixed(1)}`;
  if (event === "recognised") return `track ${tracks[0]} is ${name} (${odds})`;
  const moves = tracks.map((track, row) => `${track} → ${into[row]}`).join(", ");
  return event === "swap_suspected" ? `ids may be exchanged: ${moves} (${odds})` : `ids corrected: ${moves} (${odds})`;
}
