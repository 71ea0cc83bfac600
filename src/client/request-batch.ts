// The requests of one connection that one turn of the event loop makes: they leave in one write.
//
// Owned by StreamConnection. A payload stays the caller's memory; headers are encoded one after another into memory
// that the stream keeps until it has sent them.

import type { Writable } from 'node:stream';
import { EXTENDED_REQUEST_LENGTH, encodeRequest, type RequestHeader } from '../nbd/transmission/request.js';

/** Bytes of memory for headers that is allocated at once. */
const HEADERS = 4096;

export class RequestBatch {
  readonly #stream: Writable;
  readonly #extended: boolean;
  #headers = Buffer.alloc(0);
  #view = new DataView(this.#headers.buffer);
  /** Header bytes that belong to no part yet. */
  #start = 0;
  #end = 0;
  #parts: Uint8Array[] = [];
  #isScheduled = false;

  constructor(stream: Writable, extended: boolean) {
    this.#stream = stream;
    this.#extended = extended;
  }

  /** Adds a request, and its payload if it has one. It leaves when the code that runs now has ended. */
  add(request: RequestHeader, payload: Uint8Array | undefined): void {
    if (this.#headers.length - this.#end < EXTENDED_REQUEST_LENGTH) this.#allocate();
    this.#end += encodeRequest(this.#view, this.#end, this.#extended, request);
    if (payload !== undefined) {
      this.#closePart();
      this.#parts.push(payload);
    }
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // After the microtasks: the callers of a whole group of replies have sent their next requests then.
    process.nextTick(() => this.flush());
  }

  /** Gives everything to the stream. */
  flush(): void {
    this.#isScheduled = false;
    this.#closePart();
    const parts = this.#parts;
    if (parts.length === 0) return;
    this.#parts = [];
    if (this.#stream.destroyed) return;
    if (parts.length > 1) this.#stream.cork();
    for (const part of parts) this.#stream.write(part);
    if (parts.length > 1) this.#stream.uncork();
  }

  #closePart(): void {
    if (this.#end > this.#start) this.#parts.push(this.#headers.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }

  #allocate(): void {
    this.#closePart();
    this.#headers = Buffer.allocUnsafeSlow(HEADERS);
    this.#view = new DataView(this.#headers.buffer);
    this.#start = 0;
    this.#end = 0;
  }
}
