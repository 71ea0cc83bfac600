// The common part of the decoders: they go through a file in small steps, so that an error never hides bytes that were
// decoded before it.

import { addressOf } from '../../linux/libc.js';
import { type Damage, DecodeError, type Decoder, type RestartPoint } from '../contract/coding.js';
import { InputQueue } from './input-queue.js';
import { PointCollector } from './point-collector.js';

/** Result of a step that cannot go on: there is no input, or the file has ended. */
export const STOPPED = -1;

/** Maximum bytes of a header or trailer that a step reads as a whole. */
const MAX_HEADER = 1024;

/** See the file's head. */
export abstract class StepDecoder implements Decoder {
  protected readonly input: InputQueue;
  protected readonly points: PointCollector;
  /** The bytes of a header, as far as they are there. */
  protected readonly header = new Uint8Array(new ArrayBuffer(MAX_HEADER));
  protected readonly headerAddress = addressOf(this.header);
  protected gathered = 0;
  #out: number;
  #ended = false;
  #warning: string | undefined;
  #failure: unknown;

  protected constructor(from: RestartPoint, spacing: number) {
    this.input = new InputQueue(from.in);
    this.points = new PointCollector(from.out, spacing);
    this.#out = from.out;
  }

  /**
   * Decodes a little to `address`, which has room for `room` bytes, at least one.
   * @returns the bytes written, or STOPPED. @throws DecodeError; nothing has been written then
   */
  protected abstract step(address: number, room: number): number;
  abstract readonly verified: number;
  abstract close(): void;

  get wanted(): number {
    return this.input.end;
  }

  get out(): number {
    return this.#out;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get warning(): string | undefined {
    return this.#warning;
  }

  push(bytes: Uint8Array, isLast: boolean): void {
    if (!this.#ended) this.input.push(bytes, isLast);
  }

  pull(output: Uint8Array): number {
    if (this.#failure !== undefined) throw this.#failure;
    const address = addressOf(output);
    let made = 0;
    try {
      while (made < output.length && !this.#ended) {
        const some = this.step(address + made, output.length - made);
        if (some === STOPPED) break;
        made += some;
        this.#out += some;
      }
    } catch (error) {
      this.#failure = error;
      if (made === 0) throw error;
    }
    return made;
  }

  takePoints(): readonly RestartPoint[] {
    return this.points.take(this.#out);
  }

  /** The file has been decoded. */
  protected end(warning?: string): number {
    this.#ended = true;
    this.#warning = warning;
    this.input.clear();
    return STOPPED;
  }

  /**
   * Reads on in a header until it has `count` bytes, at most MAX_HEADER.
   * @returns whether it has; `header` keeps them until `gathered` is set to 0
   */
  protected gather(count: number): boolean {
    this.gathered += this.input.take(this.header, this.gathered, count - this.gathered);
    return this.gathered >= count;
  }

  /** The result of a step that needs more bytes. @throws DecodeError if the file ends here */
  protected starve(): number {
    if (this.input.isLast && this.input.isEmpty) throw this.failure('truncated', 'the file ends too early');
    return STOPPED;
  }

  protected failure(reason: Damage, message: string, out = this.#out): DecodeError {
    return new DecodeError(message, reason, { in: this.input.position, out });
  }
}
