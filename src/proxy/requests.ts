// The bytes of a client, with NBD_CMD_FLAG_DF added to each READ, and without the name of an export. Pure.
//
// Used by main.ts. The flag makes qemu-nbd read everything before it answers, so that it reports an unreadable sector;
// without the flag it disconnects. The header of an overlay names its image as the export, which the server below has
// without a name. Payloads pass unchanged.

import {
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPTION_MAGIC,
  NBD_REQUEST_MAGIC,
} from '../nbd/constants.js';
import { ProxyError } from './errors.js';

/** Bytes of the client's flags, of the head of an option, and of the heads of requests. */
const [FLAGS, OPTION, REQUEST, EXTENDED_REQUEST] = [4, 16, 28, 32];
const OPTION_MAGIC = Number(NBD_OPTION_MAGIC >> 32n);
/** Maximum bytes of an option's data. */
const MAX_OPTION = 1024 * 1024;
/** Options whose data begin with the length of a name and the name. */
const WITH_NAME = [NBD_OPT_GO, NBD_OPT_INFO, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT];
const EMPTY: Buffer = Buffer.alloc(0);

/** An option's data without the name of the export. */
function withoutName(option: number, data: Buffer): Buffer {
  if (option === NBD_OPT_EXPORT_NAME) return EMPTY;
  if (!WITH_NAME.includes(option) || data.length < 4) return data;
  const length = data.readUInt32BE(0);
  // The server below refuses data that are too short for their name.
  return 4 + length > data.length ? data : Buffer.concat([Buffer.alloc(4), data.subarray(4 + length)]);
}

/** Rewrites the bytes of one client. */
export class RequestRewriter {
  /** Whether the export answers in one chunk when a READ asks for it (NBD_FLAG_SEND_DF). */
  canDf = false;
  #held: Buffer = EMPTY;
  /** Bytes that pass unchanged before the next head: flags, or the rest of a payload. */
  #left = FLAGS;
  #inHandshake = true;

  /**
   * Takes the next bytes, which it may change.
   * @returns the bytes to send; it keeps the rest until their head or option is complete
   * @throws ProxyError when they are neither options nor requests
   */
  take(chunk: Buffer): Buffer {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const sent: Buffer[] = [];
    let at = Math.min(this.#left, bytes.length);
    this.#left -= at;
    if (this.#inHandshake) {
      sent.push(bytes.subarray(0, at));
      at += this.#options(bytes.subarray(at), sent);
    }
    const end = this.#inHandshake ? at : this.#requests(bytes, at);
    if (end > at || sent.length === 0) sent.push(bytes.subarray(sent.length === 0 ? 0 : at, end));
    this.#held = Buffer.from(bytes.subarray(end));
    return sent.length === 1 ? (sent[0] ?? EMPTY) : Buffer.concat(sent);
  }

  /** Rewrites complete options. @returns the bytes that they have had */
  #options(bytes: Buffer, sent: Buffer[]): number {
    let at = 0;
    while (bytes.length - at >= OPTION) {
      this.#inHandshake = bytes.readUInt32BE(at) === OPTION_MAGIC;
      if (!this.#inHandshake) break;
      const [option, length] = [bytes.readUInt32BE(at + 8), bytes.readUInt32BE(at + 12)];
      if (length > MAX_OPTION) throw new ProxyError('a client sends an option that is too long');
      const end = at + OPTION + length;
      if (end > bytes.length) break;
      const data = withoutName(option, bytes.subarray(at + OPTION, end));
      bytes.writeUInt32BE(data.length, at + 12);
      sent.push(bytes.subarray(at, at + OPTION), data);
      at = end;
    }
    return at;
  }

  /** Rewrites the requests from `at` on. @returns the end of the bytes to send */
  #requests(bytes: Buffer, at: number): number {
    let end = at;
    while (this.#left === 0) {
      const length = this.#request(bytes, end);
      if (length === undefined) break;
      const next = Math.min(end + length, bytes.length);
      this.#left = end + length - next;
      end = next;
    }
    return end;
  }

  /** Rewrites the head at `at`. @returns its length with its payload; undefined: it is not complete */
  #request(bytes: Buffer, at: number): number | undefined {
    if (bytes.length - at < REQUEST) return undefined;
    const magic = bytes.readUInt32BE(at);
    const isExtended = magic === NBD_EXTENDED_REQUEST_MAGIC;
    if (!isExtended && magic !== NBD_REQUEST_MAGIC)
      throw new ProxyError('a client sends neither an option nor a request');
    const head = isExtended ? EXTENDED_REQUEST : REQUEST;
    if (bytes.length - at < head) return undefined;
    const flags = bytes.readUInt16BE(at + 4);
    const type = bytes.readUInt16BE(at + 6);
    if (type === NBD_CMD_READ && this.canDf) bytes.writeUInt16BE(flags | NBD_CMD_FLAG_DF, at + 4);
    if (type !== NBD_CMD_WRITE && (flags & NBD_CMD_FLAG_PAYLOAD_LEN) === 0) return head;
    const length = isExtended ? Number(bytes.readBigUInt64BE(at + 24)) : bytes.readUInt32BE(at + 24);
    return head + length;
  }
}
