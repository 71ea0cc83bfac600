// The bytes of the NBD protocol as a server sends and reads them, written only for tests.
//
// Used by scripted-server.ts. Nothing here comes from src, so that it does not share the mistakes of the
// client. Numbers stand as in the NBD specification, big-endian.

import { NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE } from './nbd-numbers.js';

/** Bytes of a number with 1, 2, 4 or 8 bytes. */
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** A number of two bytes in front of a text, as error messages are sent. */
export function shortText(text: string): Buffer {
  return Buffer.concat([u16(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** Reply to option `option`: magic, option, type, length, data. */
export function optionReply(option: number, type: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u64(0x3e889045565a9n), u32(option), u32(type), u32(data.length), data]);
}

/** A simple reply: magic, error, cookie, data. */
export function simpleReply(cookie: bigint, error: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u32(0x67446698), u32(error), u64(cookie), data]);
}

/** A chunk of a structured reply: magic, flags, type, cookie, length, payload. */
export function structuredChunk(flags: number, type: number, cookie: bigint, payload: Uint8Array): Buffer {
  return Buffer.concat([u32(0x668e33ef), u16(flags), u16(type), u64(cookie), u32(payload.length), payload]);
}

/** The same with extended headers: magic, flags, type, cookie, offset, length, payload. */
export function extendedChunk(
  flags: number,
  type: number,
  cookie: bigint,
  offset: bigint,
  payload: Uint8Array,
): Buffer {
  const header = [u32(0x6e8a278c), u16(flags), u16(type), u64(cookie), u64(offset), u64(payload.length)];
  return Buffer.concat([...header, payload]);
}

/** A request of the client in the transmission phase. */
export interface ScriptedRequest {
  /** The number of its connection, from 0. */
  readonly connection: number;
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  /** The length of the range in bytes. */
  readonly length: number;
  /** The data of a WRITE; empty for other commands. */
  readonly payload: Buffer;
}

/** Reads an exact number of bytes from chunks. */
export class ByteReader {
  #pending = Buffer.alloc(0);
  #isOver = false;
  #wake: () => void = () => undefined;

  /** Received bytes that nobody has taken yet. */
  get buffered(): number {
    return this.#pending.length;
  }

  push(bytes: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** Exactly `length` bytes; undefined when the stream ends before. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#pending.length < length) {
      if (this.#isOver) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const found = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return found;
  }
}

const REQUEST_MAGIC = 0x25609513;
const EXTENDED_REQUEST_MAGIC = 0x21e41c71;

/** The next request; undefined at the end. @throws Error when it does not begin as a request must */
export async function readRequest(
  reader: ByteReader,
  connection: number,
  extended: boolean,
): Promise<ScriptedRequest | undefined> {
  const header = await reader.take(extended ? 32 : 28);
  if (header === undefined) return undefined;
  const magic = header.readUInt32BE(0);
  if (magic !== (extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC))
    throw new Error(`a request begins with ${magic.toString(16)}`);
  const [flags, type] = [header.readUInt16BE(4), header.readUInt16BE(6)];
  const length = extended ? Number(header.readBigUInt64BE(24)) : header.readUInt32BE(24);
  const saysPayload = (flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0;
  // extension-ext-header, "Request message": with extended headers a WRITE must, with compact ones nothing may.
  if (extended ? type === NBD_CMD_WRITE && !saysPayload : saysPayload)
    throw new Error(`a request of type ${type} has the flags ${flags.toString(16)}`);
  const hasPayload = type === NBD_CMD_WRITE || saysPayload;
  const payload = await reader.take(hasPayload ? length : 0);
  if (payload === undefined) return undefined;
  const [cookie, offset] = [header.readBigUInt64BE(8), header.readBigUInt64BE(16)];
  return { connection, flags, type, cookie, offset, length, payload };
}
