// Remembers the last whole record of one direction of a TLS connection that somebody else handles.
//
// Used where a session may be taken over later: which record was the last tells at which sequence number
// to go on. Pure; keeps copies, at most two records.

import { HEADER } from './constants.js';

/** See the file's head. */
export class RecordWatcher {
  /** The last whole record, its header first; empty before the first. */
  last: Uint8Array = new Uint8Array(0);
  /** What came after it: the beginning of a record. */
  begun: Uint8Array = new Uint8Array(0);

  /** Takes the next bytes of the stream. */
  see(bytes: Uint8Array): void {
    const rest = this.begun.length === 0 ? bytes : Buffer.concat([this.begun, bytes]);
    let start = 0;
    for (let end = recordEnd(rest, 0); end <= rest.length; end = recordEnd(rest, end)) {
      if (recordEnd(rest, end) > rest.length) this.last = Uint8Array.from(rest.subarray(start, end));
      start = end;
    }
    this.begun = Uint8Array.from(rest.subarray(start));
  }
}

/** Where the record that begins at `at` ends; beyond the end when its header is not whole. */
function recordEnd(bytes: Uint8Array, at: number): number {
  if (at + HEADER > bytes.length) return Number.POSITIVE_INFINITY;
  return at + HEADER + ((bytes[at + 3] << 8) | bytes[at + 4]);
}
