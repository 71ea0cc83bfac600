// Maps export names, which may be any text, to file names in one directory. Pure.
//
// Used by export-list.ts. A file name is the percent-encoded export name, as in a URI, so that it can be decoded: only
// `%` and characters that a file name cannot have are encoded. Names collide only if one export is the default export,
// or has too long a name: then the export whose name needs no change keeps it.

import { createHash } from 'node:crypto';
import { DEFAULT_NAME } from '../../mount/mountpoint.js';
import { percentBytes } from '../../nbd/uri/percent.js';
import { nameBytes } from '../../nbd/wire.js';

/** Bytes of a file's name (NAME_MAX). */
const MAX_NAME = 255;
/** Hexadecimal digits of the SHA-256 of an export's name that tell it from others. */
const DIGITS = 16;

/** Adds a hash that makes the name unique, and cuts the name to the allowed length. */
function marked(name: string, exportName: string, sign: string): string {
  const mark = `${sign}${createHash('sha256').update(nameBytes(exportName)).digest('hex').slice(0, DIGITS)}`;
  let head = Buffer.from(name)
    .subarray(0, MAX_NAME - mark.length)
    .toString();
  // Neither half a character nor half an escape.
  head = head.replace(/\uFFFD+$/, '').replace(/%.?$/, '');
  return head + mark;
}

/** The preferred file name of an export. */
export function fileName(exportName: string): string {
  if (exportName === '') return DEFAULT_NAME;
  if (exportName === '.' || exportName === '..') return percentBytes(exportName);
  const name = exportName.replace(/[\p{Cc}\p{Cs}/%]/gu, percentBytes);
  return Buffer.byteLength(name) > MAX_NAME ? marked(name, exportName, '~') : name;
}

/**
 * The file of each export, by the export's name. An export that is listed twice has one file; the order of the list
 * makes no difference to the names. An export is left out only if other exports have all of its possible names, which
 * does not happen by accident.
 */
export function fileNames(exportNames: readonly string[]): ReadonlyMap<string, string> {
  const all = new Set(exportNames);
  const isPlain = (name: string): boolean => fileName(name) === name;
  const given = new Map<string, string>();
  const taken = new Set([...all].filter(isPlain));
  for (const exportName of [...all].filter((name) => !isPlain(name)).sort()) {
    const wanted = fileName(exportName);
    const names = [wanted, ...['~', '~~'].map((sign) => marked(wanted, exportName, sign))];
    const name = names.find((one) => !taken.has(one));
    if (name === undefined) continue;
    taken.add(name);
    given.set(exportName, name);
  }
  const inOrder = [...all].map((name): [string, string | undefined] => [
    name,
    isPlain(name) ? name : given.get(name),
  ]);
  return new Map(inOrder.filter((pair): pair is [string, string] => pair[1] !== undefined));
}
