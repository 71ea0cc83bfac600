// The result of a handshake for one export: plain data, and functions on it.
//
// An ExportInfo has no methods, as structured clone copies it to the worker.

import { NBD_DEFAULT_MAXIMUM_PAYLOAD } from './constants.js';
import { printable } from './text.js';

/** Most connections to one export, of a mount or a client. */
export const MAX_CONNECTIONS = 1024;

/** Size constraints of an export in bytes (proto.md, "Size constraints"). */
export interface BlockSizes {
  /** Alignment and smallest length of a request: a power of two, 1 to 65536. */
  readonly minimum: number;
  /** Smallest length of an efficient request: a power of two, at least 512. */
  readonly preferred: number;
  /** Largest payload of a request; 0xffffffff: no fixed limit. */
  readonly maximum: number;
}

/** A negotiated metadata context. */
export interface MetaContext {
  /** Its id, valid on this connection only. */
  readonly id: number;
  /** Its name, such as `base:allocation`. */
  readonly name: string;
}

/** One export, as the handshake of one connection describes it. */
export interface ExportInfo {
  /** The requested name. */
  readonly name: string;
  /** Size in bytes, 0 to 2^63-1. */
  readonly size: bigint;
  /** Transmission flags, `NBD_FLAG_*`, 16 bits. */
  readonly flags: number;
  /** The advertised block sizes, corrected where they break the protocol; undefined without. */
  readonly blockSizes: BlockSizes | undefined;
  /** One line for each announcement of the server that breaks the protocol, with its correction; undefined without. */
  readonly corrections?: readonly string[] | undefined;
  /** The server's description, not escaped; undefined without. */
  readonly description: string | undefined;
  /** The server's canonical name of the export; undefined without. */
  readonly canonicalName: string | undefined;
  /** Whether structured replies were negotiated. */
  readonly structuredReplies: boolean;
  /** Whether extended headers (64 bits) were negotiated, which imply structured replies. */
  readonly extendedHeaders: boolean;
  /** The negotiated metadata contexts. */
  readonly metaContexts: readonly MetaContext[];
  /** The server's kind of handshake. */
  readonly handshake: 'oldstyle' | 'newstyle' | 'fixed-newstyle';
}

/** One entry of a server's list. */
export interface ListedExport {
  /** The name of the export, not escaped, at most 4096 bytes of UTF-8. */
  readonly name: string;
  /** The server's description, not escaped. */
  readonly description?: string;
  /** The reply to NBD_OPT_INFO, where the server supports it and knows the export. */
  readonly info?: ExportInfo;
}

/**
 * The block sizes to obey. Without advertised ones: requests in multiples of 512 bytes and payloads up to 32 MiB, as
 * proto.md advises for compatibility with every server; 4096 bytes preferred. The maximum is rounded down to a multiple
 * of the minimum.
 */
export function effectiveBlockSizes(info: Pick<ExportInfo, 'blockSizes'>): BlockSizes {
  const advertised = info.blockSizes;
  if (advertised === undefined)
    return { minimum: 512, preferred: 4096, maximum: NBD_DEFAULT_MAXIMUM_PAYLOAD };
  const { minimum, preferred, maximum } = advertised;
  return { minimum, preferred, maximum: maximum - (maximum % minimum) };
}

/** Largest payload of a request in bytes: the server's maximum, or 32 MiB without one. */
export function payloadLimit(blockSizes: BlockSizes): number {
  const limit = Math.min(blockSizes.maximum, NBD_DEFAULT_MAXIMUM_PAYLOAD);
  return Math.max(limit - (limit % blockSizes.minimum), blockSizes.minimum);
}

function describeBlockSizes(info: ExportInfo): string {
  const sizes = info.blockSizes;
  return sizes === undefined ? 'none' : `${sizes.minimum}/${sizes.preferred}/${sizes.maximum}`;
}

/**
 * Why the export of another connection cannot replace the one in use, as words after the export's name; undefined if it
 * can. Size, flags, block sizes, kind of replies, description and canonical name must be equal, and no metadata context
 * may be missing. Context ids may differ.
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

/** How a text of the server about the export has changed; undefined if it has not. */
function differentText(what: string, then: string | undefined, now: string | undefined): string | undefined {
  if (then === now) return undefined;
  const quoted = (text: string | undefined): string =>
    text === undefined ? 'none' : `"${printable(text, 100)}"`;
  return `the ${what} is ${quoted(now)}, not ${quoted(then)}`;
}

/** Whether the export has all bits of the transmission flags `flag`. */
export function hasFlag(info: Pick<ExportInfo, 'flags'>, flag: number): boolean {
  return (info.flags & flag) === flag;
}
