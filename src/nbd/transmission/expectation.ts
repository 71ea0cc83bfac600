// The next bytes that a handshake expects: their number and receiver, or that none may come.
//
// Owned by the handshake, one a connection. Buffers received bytes until there are enough.

import { ByteQueue } from '../byte-queue.js';
import { NbdProtocolError } from '../errors.js';

type Taker = (bytes: Uint8Array) => void;

/** The next expected bytes, and those received so far. */
export class Expectation {
  readonly #queue = new ByteQueue();
  #awaited = '';
  #need = 0;
  #take: Taker | undefined;

  /** The expected message, as words after "before". */
  get awaited(): string {
    return this.#awaited;
  }

  /** Expects `need` bytes for `take`, which owns them. */
  bytes(awaited: string, need: number, take: Taker): void {
    this.#awaited = awaited;
    this.#need = need;
    this.#take = take;
  }

  /** Expects no byte before `awaited`, an act of the client. */
  silence(awaited: string): void {
    this.#awaited = awaited;
    this.#take = undefined;
  }

  /** Drops all bytes from now on. */
  nothing(): void {
    this.bytes('', Number.POSITIVE_INFINITY, () => undefined);
  }

  /**
   * Receives bytes and calls the takers whose bytes are complete.
   * @throws NbdProtocolError if bytes arrive where none are allowed; also any error of a taker
   */
  receive(bytes: Uint8Array): void {
    if (this.#need === Number.POSITIVE_INFINITY) return;
    this.#queue.push(bytes);
    while (this.#take !== undefined && this.#queue.length >= this.#need) {
      this.#take(this.#queue.take(this.#need));
    }
    if (this.#take === undefined && this.#queue.length > 0) {
      throw new NbdProtocolError(`the server sent ${this.#queue.length} bytes before ${this.#awaited}`);
    }
  }
}
