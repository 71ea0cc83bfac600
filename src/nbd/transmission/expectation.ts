// What a handshake waits for: so many bytes and who takes them, or that no byte comes at all.
//
// Owned by the handshake, one a connection. Collects the server's bytes until there are enough, and
// holds no more than what was given in and is not yet due.

import { ByteQueue } from '../byte-queue.js';
import { NbdProtocolError } from '../errors.js';

type Taker = (bytes: Uint8Array) => void;

/** The next thing that is due, and the bytes that have come of it. */
export class Expectation {
  readonly #queue = new ByteQueue();
  #awaited = '';
  #need = 0;
  #take: Taker | undefined;

  /** What is waited for, in words that follow "before". */
  get awaited(): string {
    return this.#awaited;
  }

  /** The next `need` bytes go to `take`, whose bytes they then are. */
  bytes(awaited: string, need: number, take: Taker): void {
    this.#awaited = awaited;
    this.#need = need;
    this.#take = take;
  }

  /** No byte may come before `awaited`, which is the client's to bring about. */
  silence(awaited: string): void {
    this.#awaited = awaited;
    this.#take = undefined;
  }

  /** Whatever comes from now on is nobody's. */
  nothing(): void {
    this.bytes('', Number.POSITIVE_INFINITY, () => undefined);
  }

  /**
   * Takes what has come, and hands out what is due.
   * @throws NbdProtocolError when bytes come in a silence, and whatever a taker throws
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
