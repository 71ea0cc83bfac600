// What a handshake has found out about one export: plain data and the questions asked of it.
//
// Made by the handshake, read by everyone. An ExportInfo holds no functions, since it crosses to a
// Worker by structured clone.

import { NBD_DEFAULT_MAXIMUM_PAYLOAD, NBD_FLAG_CAN_MULTI_CONN, NBD_FLAG_READ_ONLY } from './constants.js';
import { printable } from './text.js';

/** Size constraints of an export in bytes (proto.md, "Size constraints"). */
export interface BlockSizes {
  /** Alignment and least length of a request: a power of two, 1 to 65536. */
  readonly minimum: number;
  /** Least length of an efficient request: a power of two, 512 or more. */
  readonly preferred: number;
  /** Largest payload of a request; 0xffffffff says that there is no fixed limit. */
  readonly maximum: number;
}

/** A metadata context that was agreed on. */
export interface MetaContext {
  /** The server's number for it, valid on this connection only. */
  readonly id: number;
  /** Its name, such as `base:allocation`. */
  readonly name: string;
}

/** One export, as the handshake of one connection described it. */
export interface ExportInfo {
  /** The name that was asked for. */
  readonly name: string;
  /** Bytes, 0 to 2^63-1. */
  readonly size: bigint;
  /** `NBD_FLAG_*` transmission flags, 16 bits. */
  readonly flags: number;
  /** As advertised; undefined when the server said nothing. */
  readonly blockSizes: BlockSizes | undefined;
  /** Text for people, not escaped; undefined when the server said nothing. */
  readonly description: string | undefined;
  /** The server's own name for the export; undefined when the server said nothing. */
  readonly canonicalName: string | undefined;
  /** Structured replies were agreed on. */
  readonly structuredReplies: boolean;
  /** 64-bit headers; they imply structured replies. */
  readonly extendedHeaders: boolean;
  /** The metadata contexts that were agreed on. */
  readonly metaContexts: readonly MetaContext[];
  /** The kind of handshake that the server spoke. */
  readonly handshake: 'oldstyle' | 'newstyle' | 'fixed-newstyle';
}

/** One entry of a server's list. */
export interface ListedExport {
  /** What to ask for, not escaped, at most 4096 bytes of UTF-8. */
  readonly name: string;
  /** Text for people, not escaped. */
  readonly description?: string;
  /** What NBD_OPT_INFO told, where the server supports it and knows the export. */
  readonly info?: ExportInfo;
}

/**
 * The constraints to keep to. Where nothing was advertised: requests in multiples of 512 bytes,
 * payloads up to 32 MiB, as proto.md advises to clients that want to get on with every server; and
 * 4096 bytes preferred. The maximum is rounded down to a multiple of the minimum.
 */
export function effectiveBlockSizes(info: Pick<ExportInfo, 'blockSizes'>): BlockSizes {
  const advertised = info.blockSizes;
  if (advertised === undefined)
    return { minimum: 512, preferred: 4096, maximum: NBD_DEFAULT_MAXIMUM_PAYLOAD };
  const { minimum, preferred, maximum } = advertised;
  return { minimum, preferred, maximum: maximum - (maximum % minimum) };
}

/** The largest payload of one request: the server's maximum, or 32 MiB where it has none. */
export function payloadLimit(blockSizes: BlockSizes): number {
  const limit = Math.min(blockSizes.maximum, NBD_DEFAULT_MAXIMUM_PAYLOAD);
  return Math.max(limit - (limit % blockSizes.minimum), blockSizes.minimum);
}

function describeBlockSizes(info: ExportInfo): string {
  const sizes = info.blockSizes;
  return sizes === undefined ? 'none' : `${sizes.minimum}/${sizes.preferred}/${sizes.maximum}`;
}

/**
 * Why another connection's export cannot stand in for the one that is in use, in words that follow
 * the export's name; undefined when it can. Size, flags, block sizes, the kind of headers and what the
 * server calls the disk must be the same, and no metadata context may be missing (their ids are each
 * connection's own).
 */
export function sameExport(inUse: ExportInfo, other: ExportInfo): string | undefined {
  if (other.size !== inUse.size) return `the size is ${other.size} bytes, not ${inUse.size}`;
  if (other.flags !== inUse.flags) {
    return `the transmission flags are 0x${other.flags.toString(16)}, not 0x${inUse.flags.toString(16)}`;
  }
  if (describeBlockSizes(other) !== describeBlockSizes(inUse)) {
    return `the block sizes are ${describeBlockSizes(other)}, not ${describeBlockSizes(inUse)}`;
  }
  if (
    other.structuredReplies !== inUse.structuredReplies ||
    other.extendedHeaders !== inUse.extendedHeaders
  ) {
    return 'the negotiated reply headers are different';
  }
  const names = differentText('name', inUse.canonicalName, other.canonicalName);
  const texts = names ?? differentText('description', inUse.description, other.description);
  if (texts !== undefined) return texts;
  const missing = inUse.metaContexts.find(
    (context) => !other.metaContexts.some(({ name }) => name === context.name),
  );
  return missing === undefined
    ? undefined
    : `the metadata context "${printable(missing.name, 256)}" is missing`;
}

/** How what a server says of an export has changed. */
function differentText(what: string, then: string | undefined, now: string | undefined): string | undefined {
  if (then === now) return undefined;
  const quoted = (text: string | undefined): string =>
    text === undefined ? 'none' : `"${printable(text, 100)}"`;
  return `the ${what} is ${quoted(now)}, not ${quoted(then)}`;
}

/** Whether the export has the transmission flag(s) `flag`, all of them. */
export function hasFlag(info: Pick<ExportInfo, 'flags'>, flag: number): boolean {
  return (info.flags & flag) === flag;
}

export function isReadOnly(info: Pick<ExportInfo, 'flags'>): boolean {
  return hasFlag(info, NBD_FLAG_READ_ONLY);
}

export function canMultiConn(info: Pick<ExportInfo, 'flags'>): boolean {
  return hasFlag(info, NBD_FLAG_CAN_MULTI_CONN);
}
