// The server's side of the fixed newstyle handshake, for one connection of a scripted server.
//
// Used by scripted-server.ts. Grants the options of the export's description and refuses the rest with
// NBD_REP_ERR_UNSUP, as an older server would.

import {
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
} from './nbd-numbers.js';
import { type ByteReader, optionReply, u16, u32, u64 } from './scripted-wire.js';

/** The export and the terms of a scripted server. */
export interface ScriptedExport {
  readonly size: bigint;
  /** Transmission flags; HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES if not given. */
  readonly flags?: number;
  /** Granted when given: minimum, preferred, maximum. */
  readonly blockSizes?: readonly [number, number, number];
  readonly structuredReplies?: boolean;
  /** Extended headers; structured replies come with them. */
  readonly extendedHeaders?: boolean;
  /** Meta contexts by their name, with the number that the server gives them. */
  readonly metaContexts?: Readonly<Record<string, number>>;
  /** Names of exports for NBD_OPT_LIST; any name may be opened. */
  readonly names?: readonly string[];
}

/** The negotiated terms. */
export interface Agreed {
  readonly exportName: string;
  readonly structured: boolean;
  readonly extended: boolean;
  /** Numbers of the meta contexts that were set. */
  readonly contexts: readonly number[];
}

/** HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES. */
export const DEFAULT_FLAGS = 0b110_1101;

/** A handshake in progress. */
class ScriptedHandshake {
  #structured = false;
  #extended = false;
  #contexts: number[] = [];
  readonly #served: ScriptedExport;
  readonly #send: (bytes: Buffer) => void;

  constructor(served: ScriptedExport, send: (bytes: Buffer) => void) {
    this.#served = served;
    this.#send = send;
  }

  get flags(): number {
    return this.#served.flags ?? DEFAULT_FLAGS;
  }

  agreed(exportName: string): Agreed {
    return { exportName, structured: this.#structured, extended: this.#extended, contexts: this.#contexts };
  }

  /** NBD_INFO_EXPORT, the block sizes, and NBD_REP_ACK. */
  describe(option: number): void {
    const { size, blockSizes } = this.#served;
    const info = (data: Buffer): void => this.#send(optionReply(option, NBD_REP_INFO, data));
    info(Buffer.concat([u16(NBD_INFO_EXPORT), u64(size), u16(this.flags)]));
    if (blockSizes !== undefined) info(Buffer.concat([u16(NBD_INFO_BLOCK_SIZE), ...blockSizes.map(u32)]));
    this.#acknowledge(option);
  }

  /** Answers an option that does not end the handshake. */
  answer(option: number, data: Buffer): void {
    const { structuredReplies = false, extendedHeaders = false, names = [], metaContexts } = this.#served;
    const isStructured = structuredReplies || extendedHeaders;
    if (option === NBD_OPT_STRUCTURED_REPLY && isStructured) {
      this.#structured = true;
      this.#acknowledge(option);
    } else if (option === NBD_OPT_EXTENDED_HEADERS && extendedHeaders) {
      this.#structured = true;
      this.#extended = true;
      this.#acknowledge(option);
    } else if (option === NBD_OPT_LIST) {
      for (const name of names) {
        const bytes = Buffer.from(name);
        this.#send(optionReply(option, NBD_REP_SERVER, Buffer.concat([u32(bytes.length), bytes])));
      }
      this.#acknowledge(option);
    } else if (option === NBD_OPT_SET_META_CONTEXT && !this.#structured) {
      throw new Error('the client requests metadata contexts without structured replies');
    } else if (
      (option === NBD_OPT_SET_META_CONTEXT || option === NBD_OPT_LIST_META_CONTEXT) &&
      metaContexts !== undefined
    ) {
      this.#grantContexts(option, data, metaContexts);
    } else this.#send(optionReply(option, NBD_REP_ERR_UNSUP));
  }

  /** Grants the queried contexts that exist. */
  #grantContexts(option: number, data: Buffer, contexts: Readonly<Record<string, number>>): void {
    let at = 4 + data.readUInt32BE(0);
    const count = data.readUInt32BE(at);
    const granted: number[] = [];
    at += 4;
    for (let i = 0; i < count; i++) {
      const length = data.readUInt32BE(at);
      const query = data.toString('utf8', at + 4, at + 4 + length);
      at += 4 + length;
      if (!Object.hasOwn(contexts, query)) continue;
      granted.push(contexts[query]);
      const context = Buffer.concat([u32(contexts[query]), Buffer.from(query)]);
      this.#send(optionReply(option, NBD_REP_META_CONTEXT, context));
    }
    if (option === NBD_OPT_SET_META_CONTEXT) this.#contexts = granted;
    this.#acknowledge(option);
  }

  #acknowledge(option: number): void {
    this.#send(optionReply(option, NBD_REP_ACK));
  }
}

const WITHOUT_DATA = [
  NBD_OPT_ABORT,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_OPT_EXTENDED_HEADERS,
];

/** The rules of doc/proto.md for every option, "Fixed newstyle negotiation" and "Option types". @throws Error */
function checkOption(option: number, data: Buffer, buffered: number): void {
  if (buffered > 0) throw new Error(`the client went on before the reply to option ${option}`);
  if (WITHOUT_DATA.includes(option) && data.length > 0) throw new Error(`option ${option} has data`);
  if (option !== NBD_OPT_GO && option !== NBD_OPT_INFO) return;
  const at = 4 + data.readUInt32BE(0);
  const wanted = Array.from({ length: data.readUInt16BE(at) }, (_, i) => data.readUInt16BE(at + 2 + 2 * i));
  if (new Set(wanted).size < wanted.length)
    throw new Error('the client requests a piece of information twice');
  if (!wanted.includes(NBD_INFO_BLOCK_SIZE)) throw new Error('the client does not request the block sizes');
}

/** Runs the handshake; undefined if the client left, with or without NBD_OPT_ABORT. */
export async function shakeHands(
  reader: ByteReader,
  send: (bytes: Buffer) => void,
  served: ScriptedExport,
): Promise<Agreed | undefined> {
  // NBDMAGIC, IHAVEOPT, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES
  send(Buffer.concat([Buffer.from('NBDMAGIC'), Buffer.from('IHAVEOPT'), u16(0b11)]));
  const clientFlags = await reader.take(4);
  if (clientFlags === undefined) return undefined;
  // "Client flags": no flag that the server has not offered.
  if ((clientFlags.readUInt32BE(0) & ~0b11) !== 0)
    throw new Error('the client set flags that nobody offered');
  const handshake = new ScriptedHandshake(served, send);
  for (;;) {
    const header = await reader.take(16);
    if (header === undefined) return undefined;
    const option = header.readUInt32BE(8);
    const data = await reader.take(header.readUInt32BE(12));
    if (data === undefined) return undefined;
    checkOption(option, data, reader.buffered);
    if (option === NBD_OPT_ABORT) {
      send(optionReply(option, NBD_REP_ACK));
      return undefined;
    }
    if (option === NBD_OPT_EXPORT_NAME) {
      const zeroes = (clientFlags.readUInt32BE(0) & 0b10) === 0 ? 124 : 0;
      send(Buffer.concat([u64(served.size), u16(handshake.flags), Buffer.alloc(zeroes)]));
      return handshake.agreed(data.toString());
    }
    if (option === NBD_OPT_GO || option === NBD_OPT_INFO) handshake.describe(option);
    else handshake.answer(option, data);
    if (option === NBD_OPT_GO) return handshake.agreed(data.toString('utf8', 4, 4 + data.readUInt32BE(0)));
  }
}
