// Splits a stream of bytes into lines.

/** Passes each line, as text without its newline, to `take`; splits lines that are longer than the limit. */
export class Lines {
  readonly #limit: number;
  readonly #take: (line: string) => void;
  readonly #decoder = new TextDecoder();
  #begun = '';

  /** @param limit maximum characters of a line */
  constructor(limit: number, take: (line: string) => void) {
    this.#limit = limit;
    this.#take = take;
  }

  take(chunk: Uint8Array): void {
    const pieces = (this.#begun + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#begun = pieces.pop() ?? '';
    for (const piece of pieces) this.#take(piece);
    while (this.#begun.length > this.#limit) {
      this.#take(this.#begun.slice(0, this.#limit));
      this.#begun = this.#begun.slice(this.#limit);
    }
  }
}
