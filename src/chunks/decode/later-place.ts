// The later restart point that an index or a seek table names. A decoder that began at a point of such a table must come
// to that place: otherwise the table is wrong, and all bytes behind the point may be of other places.

/** A place where decoding can begin: its offset in the file, and that of its first decoded byte. */
interface Place {
  readonly in: number;
  readonly out: number;
}

const LENGTH = 16;

/** The state of a restart point before `later`. @param own bytes of the decoder, which come first */
export function stateBefore(later: Place, own: readonly number[] = []): Uint8Array {
  const state = new Uint8Array(own.length + LENGTH);
  state.set(own);
  const view = new DataView(state.buffer, own.length);
  view.setFloat64(0, later.in);
  view.setFloat64(8, later.out);
  return state;
}

/** See the file's head. It is forgotten when the decoder has come there. */
export class LaterPlace {
  #place: Place | undefined;

  /**
   * @param state of the restart point at which the decoder begins; it may name no later one
   * @param ownLength number of the decoder's own bytes in it
   */
  constructor(state: Uint8Array | undefined, ownLength = 0) {
    if (state === undefined || state.length < ownLength + LENGTH) return;
    const view = new DataView(state.buffer, state.byteOffset + ownLength, LENGTH);
    this.#place = { in: view.getFloat64(0), out: view.getFloat64(8) };
  }

  /** End of the decoded bytes that may count as verified: those before the place count all only when it is reached. */
  get limit(): number {
    return this.#place === undefined ? Number.POSITIVE_INFINITY : this.#place.out - 1;
  }

  /** Whether decoded bytes end behind the place, which has not been reached. @param out the end of the bytes */
  isPassedBy(out: number): boolean {
    return this.#place !== undefined && out > this.#place.out;
  }

  /** Whether a decoder may be here between two blocks: before the place, or at it. */
  allows(position: number, out: number): boolean {
    const place = this.#place;
    if (place === undefined || (position < place.in && out <= place.out)) return true;
    if (position !== place.in || out !== place.out) return false;
    this.#place = undefined;
    return true;
  }
}
