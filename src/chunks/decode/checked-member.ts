// The decoder of a file in a zip archive, which records the CRC-32 of the decoded bytes.
//
// The check comes at the end, behind the bytes: as that of gzip, it can only say that bytes which have left were wrong.

import { addressOf } from '../../linux/libc.js';
import { DecodeError, type Decoder, type MemberCheck, type RestartPoint } from '../contract/coding.js';
import { crc32At } from './gzip.js';

export class CheckedMember implements Decoder {
  readonly #decoder: Decoder;
  readonly #check: MemberCheck;
  #crc = 0;
  #failure: DecodeError | undefined;

  /** @param decoder a decoder of the whole member */
  constructor(decoder: Decoder, check: MemberCheck) {
    this.#decoder = decoder;
    this.#check = check;
  }

  get wanted(): number {
    return this.#decoder.wanted;
  }

  get out(): number {
    return this.#decoder.out;
  }

  get verified(): number {
    return this.#decoder.verified;
  }

  get ended(): boolean {
    return this.#decoder.ended && this.#failure === undefined;
  }

  get warning(): string | undefined {
    return this.#decoder.warning;
  }

  push(bytes: Uint8Array, isLast: boolean): void {
    this.#decoder.push(bytes, isLast);
  }

  pull(output: Uint8Array): number {
    if (this.#failure !== undefined) throw this.#failure;
    const made = this.#decoder.pull(output);
    if (made > 0) this.#crc = crc32At(this.#crc, addressOf(output), made);
    if (!this.#decoder.ended || this.#check.crcs.includes(this.#crc)) return made;
    const at = { in: this.wanted, out: 0 };
    this.#failure = new DecodeError('the CRC of the data is wrong', 'damaged', at);
    if (made === 0) throw this.#failure;
    return made;
  }

  takePoints(): readonly RestartPoint[] {
    return this.#decoder.takePoints();
  }

  close(): void {
    this.#decoder.close();
  }
}
