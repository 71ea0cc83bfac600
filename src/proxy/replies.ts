// The bytes of a server during the handshake, with the size of the export made smaller. Pure.
//
// Used by main.ts. QEMU rounds the size of a raw image up to sectors; the proxy shows its own size again.

import {
  NBD_FLAG_SEND_DF,
  NBD_INFO_EXPORT,
  NBD_OPT_GO,
  NBD_OPTION_REPLY_MAGIC,
  NBD_REP_ACK,
  NBD_REP_INFO,
} from '../nbd/constants.js';
import { ProxyError } from './errors.js';

/** Bytes of the greeting, and of the head of a reply. */
const [GREETING, REPLY] = [18, 20];
/** Bytes of the answer to NBD_OPT_EXPORT_NAME that are inspected: size and flags. */
const EXPORT = 10;
/** Maximum bytes of a reply to an option. */
const MAX_REPLY = 1024 * 1024;

/** Rewrites the bytes of a server to one client. */
export class ReplyRewriter {
  /** Whether the export supports NBD_CMD_FLAG_DF. */
  canDf = false;
  readonly #size: bigint | undefined;
  #held: Buffer = Buffer.alloc(0);
  #isGreeted = false;
  #isReady = false;

  /** @param size in bytes, at most that of the export; undefined: that of the export */
  constructor(size?: bigint) {
    this.#size = size;
  }

  /**
   * Takes the next bytes, which it may change.
   * @returns the bytes to send; it keeps the rest until their message is complete
   * @throws ProxyError
   */
  take(chunk: Buffer): Buffer {
    if (this.#isReady) return chunk;
    const bytes = Buffer.concat([this.#held, chunk]);
    let at = 0;
    while (!this.#isReady) {
      const length = this.#message(bytes.subarray(at));
      if (length === undefined) break;
      at += length;
    }
    if (this.#isReady) at = bytes.length;
    this.#held = bytes.subarray(at);
    return bytes.subarray(0, at);
  }

  /** Rewrites the message at the beginning. @returns its length; undefined: it is not complete */
  #message(bytes: Buffer): number | undefined {
    if (!this.#isGreeted) {
      this.#isGreeted = bytes.length >= GREETING;
      return this.#isGreeted ? GREETING : undefined;
    }
    if (bytes.length < EXPORT) return undefined;
    if (bytes.readBigUInt64BE(0) !== NBD_OPTION_REPLY_MAGIC) {
      // The answer to NBD_OPT_EXPORT_NAME has no head.
      this.#describe(bytes);
      this.#isReady = true;
      return EXPORT;
    }
    if (bytes.length < REPLY) return undefined;
    const [option, type, length] = [bytes.readUInt32BE(8), bytes.readUInt32BE(12), bytes.readUInt32BE(16)];
    if (length > MAX_REPLY) throw new ProxyError('the server below sends a reply that is too long');
    if (bytes.length < REPLY + length) return undefined;
    const data = bytes.subarray(REPLY, REPLY + length);
    if (type === NBD_REP_INFO && length >= 2 + EXPORT && data.readUInt16BE(0) === NBD_INFO_EXPORT)
      this.#describe(data.subarray(2));
    if (option === NBD_OPT_GO && type === NBD_REP_ACK) this.#isReady = true;
    return REPLY + length;
  }

  /** Rewrites the size and reads the flags of an export. */
  #describe(bytes: Buffer): void {
    const size = bytes.readBigUInt64BE(0);
    if (this.#size !== undefined && this.#size < size) bytes.writeBigUInt64BE(this.#size, 0);
    this.canDf = (bytes.readUInt16BE(8) & NBD_FLAG_SEND_DF) !== 0;
  }
}
