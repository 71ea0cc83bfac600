// The server's side of the fixed newstyle handshake, for one client. Pure: bytes in, bytes out.
//
// Owned by client.ts. There is one disk, whatever name a client asks for, as with nbdkit: an overlay names the image
// below it there. The list has it without a name. An option that is not well formed gets NBD_REP_ERR_INVALID; a client
// that loses the framing, or sends more than an option may have, has broken the protocol, and its connection ends.

import { ByteQueue } from '../../nbd/byte-queue.js';
import {
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_MAGIC,
  NBD_MAX_STRING,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_OPTION_MAGIC,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
} from '../../nbd/constants.js';
import { NbdProtocolError } from '../../nbd/errors.js';
import { concat, u16, u32, u64, utf8, WireReader } from '../../nbd/wire.js';
import type { DiskProperties } from '../contract/disk.js';
import { exportFlags } from './export-flags.js';
import { decodeContextQuery, decodeExportQuery, optionReply } from './option-requests.js';

/** Maximum bytes of an option's data. */
const MAX_OPTION = 64 * 1024;
/** Bytes of an option's header: magic, option, length. */
const OPTION_HEADER = 16;
/** Zero bytes after a reply to NBD_OPT_EXPORT_NAME, unless both sides want none. */
const RESERVED_ZEROES = 124;
/** The only metadata context, and its id. */
const ALLOCATION = 'base:allocation';
const ALLOCATION_ID = 1;

/** The result of the handshake. */
export interface Terms {
  readonly structured: boolean;
  /** The id of `base:allocation`; undefined: not negotiated. */
  readonly allocation: number | undefined;
}

/** The disk to offer, or the reason why there is none, in one line. */
export type Offer = DiskProperties | { readonly refusal: string };

/** The phase of the connection after the bytes so far. */
export type Phase = 'handshake' | 'transmission' | 'end';

/** The head of an option whose data may not have come yet. */
interface OptionHead {
  readonly option: number;
  readonly length: number;
}

/** The first bytes of the server. */
export const GREETING: Uint8Array = concat(
  u64(NBD_MAGIC),
  u64(NBD_OPTION_MAGIC),
  u16(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
);

/** At most `limit` bytes of a text in UTF-8, without half a character at the end. */
export function clippedText(text: string, limit: number): Uint8Array {
  const bytes = utf8(text);
  if (bytes.length <= limit) return bytes;
  let end = limit;
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

/** See the file's head. GREETING comes before. */
export class ServerHandshake {
  readonly #offer: Offer;
  readonly #queue = new ByteQueue();
  #replies: Uint8Array[] = [];
  #phase: Phase = 'handshake';
  #clientFlags: number | undefined;
  #head: OptionHead | undefined;
  #structured = false;
  #hasAllocation = false;

  constructor(offer: Offer) {
    this.#offer = offer;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** The terms of the transmission phase. */
  get terms(): Terms {
    return { structured: this.#structured, allocation: this.#hasAllocation ? ALLOCATION_ID : undefined };
  }

  /** The bytes after the handshake, once. */
  takeRest(): Uint8Array {
    return this.#queue.take(this.#queue.length);
  }

  /** Takes the client's next bytes, and returns the replies. */
  receive(bytes: Uint8Array): Uint8Array {
    this.#queue.push(bytes);
    while (this.#phase === 'handshake' && this.#step());
    const replies = concat(...this.#replies);
    this.#replies = [];
    return replies;
  }

  /** Handles the next message. @returns false if it has not come as a whole */
  #step(): boolean {
    if (this.#clientFlags === undefined) return this.#takeClientFlags();
    if (this.#head === undefined) return this.#takeHead();
    const { option, length } = this.#head;
    if (this.#queue.length < length) return false;
    const data = this.#queue.take(length);
    this.#head = undefined;
    this.#answer(option, data);
    return true;
  }

  #takeClientFlags(): boolean {
    if (this.#queue.length < 4) return false;
    const flags = new WireReader(this.#queue.take(4), 'client flags').u32();
    const known = NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES;
    this.#clientFlags = flags;
    if ((flags & ~known) !== 0) this.#phase = 'end';
    return true;
  }

  #takeHead(): boolean {
    if (this.#queue.length < OPTION_HEADER) return false;
    const reader = new WireReader(this.#queue.take(OPTION_HEADER), 'an option');
    const magic = reader.u64();
    const head = { option: reader.u32(), length: reader.u32() };
    const isFixed = ((this.#clientFlags ?? 0) & NBD_FLAG_C_FIXED_NEWSTYLE) !== 0;
    // A client that does not know the fixed handshake does not expect replies to other options.
    const isExpected = isFixed || head.option === NBD_OPT_EXPORT_NAME;
    if (magic !== NBD_OPTION_MAGIC || head.length > MAX_OPTION || !isExpected) this.#phase = 'end';
    this.#head = head;
    return true;
  }

  #reply(option: number, type: number, ...data: readonly Uint8Array[]): void {
    this.#replies.push(optionReply(option, type, ...data));
  }

  #answer(option: number, data: Uint8Array): void {
    try {
      this.#answerValid(option, data);
    } catch (error) {
      if (!(error instanceof NbdProtocolError)) throw error;
      this.#reply(option, NBD_REP_ERR_INVALID, utf8(error.message));
    }
  }

  /** @throws NbdProtocolError if the data is not well formed */
  #answerValid(option: number, data: Uint8Array): void {
    switch (option) {
      case NBD_OPT_EXPORT_NAME:
        this.#openByName();
        break;
      case NBD_OPT_ABORT:
        this.#reply(option, NBD_REP_ACK);
        this.#phase = 'end';
        break;
      case NBD_OPT_LIST:
        expectEmpty(data);
        this.#reply(option, NBD_REP_SERVER, u32(0));
        this.#reply(option, NBD_REP_ACK);
        break;
      case NBD_OPT_STRUCTURED_REPLY:
        expectEmpty(data);
        this.#structured = true;
        this.#reply(option, NBD_REP_ACK);
        break;
      case NBD_OPT_INFO:
      case NBD_OPT_GO:
        this.#describe(option, data);
        break;
      case NBD_OPT_LIST_META_CONTEXT:
      case NBD_OPT_SET_META_CONTEXT:
        this.#selectContexts(option, data);
        break;
      default:
        this.#reply(option, NBD_REP_ERR_UNSUP);
    }
  }

  /** The option has no reply for an error, except the end. */
  #openByName(): void {
    if ('refusal' in this.#offer) {
      this.#phase = 'end';
      return;
    }
    const zeroes = ((this.#clientFlags ?? 0) & NBD_FLAG_C_NO_ZEROES) === 0 ? RESERVED_ZEROES : 0;
    const flags = exportFlags(this.#offer, this.#structured);
    this.#replies.push(concat(u64(BigInt(this.#offer.size)), u16(flags), new Uint8Array(zeroes)));
    this.#phase = 'transmission';
  }

  #describe(option: number, data: Uint8Array): void {
    const wanted = decodeExportQuery(data);
    const disk = this.#offer;
    if ('refusal' in disk) {
      this.#reply(option, NBD_REP_ERR_UNKNOWN, clippedText(disk.refusal, NBD_MAX_STRING));
      return;
    }
    const inform = (kind: number, ...fields: readonly Uint8Array[]): void =>
      this.#reply(option, NBD_REP_INFO, u16(kind), ...fields);
    inform(NBD_INFO_EXPORT, u64(BigInt(disk.size)), u16(exportFlags(disk, this.#structured)));
    if (wanted.includes(NBD_INFO_NAME)) inform(NBD_INFO_NAME);
    if (wanted.includes(NBD_INFO_DESCRIPTION) && disk.description !== undefined)
      inform(NBD_INFO_DESCRIPTION, clippedText(disk.description, NBD_MAX_STRING));
    const { minimum, preferred, maximum } = disk.blockSizes;
    // A client that does not know the minimum would fail later.
    if (wanted.includes(NBD_INFO_BLOCK_SIZE) || minimum > 1)
      inform(NBD_INFO_BLOCK_SIZE, u32(minimum), u32(preferred), u32(maximum));
    this.#reply(option, NBD_REP_ACK);
    if (option === NBD_OPT_GO) this.#phase = 'transmission';
  }

  #selectContexts(option: number, data: Uint8Array): void {
    const isSelection = option === NBD_OPT_SET_META_CONTEXT;
    if (isSelection) this.#hasAllocation = false;
    if (!this.#structured) throw new NbdProtocolError('metadata contexts need structured replies');
    const queries = decodeContextQuery(data);
    const isListed = !isSelection && (queries.length === 0 || queries.includes('base:'));
    if (isListed || queries.includes(ALLOCATION)) {
      this.#hasAllocation ||= isSelection;
      this.#reply(option, NBD_REP_META_CONTEXT, u32(isSelection ? ALLOCATION_ID : 0), utf8(ALLOCATION));
    }
    this.#reply(option, NBD_REP_ACK);
  }
}

/** @throws NbdProtocolError */
function expectEmpty(data: Uint8Array): void {
  if (data.length > 0) throw new NbdProtocolError('the option has data');
}
