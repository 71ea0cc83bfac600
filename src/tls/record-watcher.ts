// Keeps the last complete record of one direction of a TLS connection that Node handles.
//
// Used where the worker may take the session over: the last record reveals the sequence number. Pure; keeps copies.

import { HEADER } from './constants.js';

/** See the file's head. */
export class RecordWatcher {
  /** The last complete record with its header; empty before the first. */
  last: Uint8Array = new Uint8Array(0);
  /** The bytes after it: the beginning of a record. */
  begun: Uint8Array = new Uint8Array(0);

  /** Receives the next bytes of the stream. */
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

/** End of the record at `at`; infinite if its header is incomplete. */
function recordEnd(bytes: Uint8Array, at: number): number {
  if (at + HEADER > bytes.length) return Number.POSITIVE_INFINITY;
  return at + HEADER + ((bytes[at + 3] << 8) | bytes[at + 4]);
}
