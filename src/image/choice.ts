// Decides the format of a file, from its name, its first bytes, and --format. Pure.
//
// A guest that writes to a raw disk can make its first sector look like a qcow2 header that names any
// file of the host as its backing file. So content alone never makes an image anything but raw: the name must indicate
// the same format, or the user must name it. Where name and content disagree, the user must decide.

import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';
import { type Foreign, foreignOf, isSkippable } from './foreign.js';
import {
  type Compression,
  compressionOfContent,
  formatOfContent,
  formatOfName,
  type ImageFormat,
  type RequestedFormat,
  suffixOf,
} from './formats.js';

/** The evidence about a file. */
export interface Evidence {
  /** Its name, without directories. */
  readonly name: string;
  /** Its first bytes. */
  readonly head: Buffer;
  /** Its last 512 bytes, if available. */
  readonly tail?: Buffer | undefined;
  /** Whether it lies in an archive. */
  readonly isMember?: boolean;
}

/** The kind of a file whose name calls it compressed, and the next step. */
function contradictionTo(content: Compression | undefined, foreign: Foreign | undefined): [string, string] {
  if (content !== undefined) return [`looks like ${content}`, 'rename it'];
  if (foreign !== undefined) return [`is ${foreign.what}`, foreign.remedy];
  return ['does not look like it', 'get it again, or use --format=raw to serve it unchanged'];
}

/**
 * How the file is compressed; undefined when it is not.
 * @param wantsMember whether the user names a file in it, so that it must be an archive, whatever its name says
 * @throws ImageError when name and content disagree and the user does not decide
 */
export function chooseCompression(
  { name, head, tail }: Evidence,
  requested: RequestedFormat,
  wantsMember = false,
): Compression | undefined {
  const promised = requested.compression ?? formatOfName(name).compression;
  // The first block of a dmg may begin like a file of xz or bzip2.
  const isDmg = promised === undefined && formatOfContent(Buffer.alloc(0), tail) === 'dmg';
  const content = isDmg ? undefined : compressionOfContent(head);
  // No disk begins like this, and the image names no other file; its name is that of a raw disk.
  const isDecided = requested.format !== undefined || promised !== undefined;
  if (promised === content || (content === 'android-sparse' && !isDecided)) return content;
  if (wantsMember && promised === undefined) return content;
  // A frame of either format may come first.
  if (content === undefined && (promised === 'zstd' || promised === 'lz4') && isSkippable(head))
    return promised;
  const shown = printable(name);
  if (promised !== undefined) {
    const isRaw = requested.format !== undefined && requested.compression === undefined;
    // Only the name says so, and the user says otherwise.
    if (content === undefined && isRaw) return undefined;
    const [found, next] = contradictionTo(content, foreignOf(head));
    throw new ImageError(`${shown} should be compressed with ${promised}, but ${found}: ${next}`);
  }
  if (content === undefined || requested.format !== undefined) return undefined;
  const word = suffixOf(content);
  throw new ImageError(
    `${shown} looks like a file compressed with ${content}, but its name does not say so: ` +
      `use --format=${word} to decompress it, or --format=raw to serve it unchanged`,
  );
}

/** A compressed file where chooseCompression has found none, or has found another one around it. */
function compressedOf(head: Buffer): Foreign | undefined {
  const content = compressionOfContent(head);
  if (content === undefined) return undefined;
  return { what: `a file compressed with ${content}`, remedy: `unpack it first (${content} -d)` };
}

/**
 * The image's format; the evidence is that of the unpacked image, under the name of the file.
 * @throws ImageError when name and content disagree and the user does not decide
 */
export function chooseFormat(
  { name, head, tail, isMember = false }: Evidence,
  requested: RequestedFormat,
): ImageFormat {
  if (requested.format !== undefined) return requested.format;
  const content = formatOfContent(head, tail);
  const promised = formatOfName(name).format;
  const shown = printable(name);
  const foreign = content === 'raw' ? (foreignOf(head, tail) ?? compressedOf(head)) : undefined;
  if (foreign !== undefined) {
    const { what, remedy: only, nestedRemedy = only } = foreign;
    const remedy = isMember ? nestedRemedy : only;
    const not = promised === undefined ? 'not a raw disk' : `not a ${promised} image`;
    throw new ImageError(`${shown} is ${what}, ${not}: ${remedy}, or use --format=raw to serve it unchanged`);
  }
  if (promised === undefined && content === 'raw') return 'raw';
  if (promised === content) return content;
  if (promised === undefined) {
    throw new ImageError(
      `${shown} looks like a ${content} image, but its name does not say so, and a guest that writes to a raw ` +
        `disk can make it look like one: use --format=${content} if you trust it, or --format=raw`,
    );
  }
  const found = content === 'raw' ? 'does not look like one' : `looks like a ${content} image`;
  throw new ImageError(
    `${shown} should be a ${promised} image, but ${found}: use --format=${content} if it is ${content}`,
  );
}
