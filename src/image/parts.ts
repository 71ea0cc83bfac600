// Finds the parts of a raw image that split(1) or another program has cut: disk.img.001, disk.img.002, and so on.
//
// Used by prepare.ts. A part alone is a wrong disk, so nbdfuse joins them, or refuses them when one is missing.

import { lstat, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { printable } from '../nbd/text.js';
import { reasonOf } from '../transport/errors.js';
import { ImageError } from './errors.js';

/** Maximum number of parts: nbdkit holds each one open. */
const MAX_PARTS = 1000;
const NUMBERED = /^(.+)\.(part)?(\d{1,4})$/;
const LETTERED = /^(.+)\.([a-z]{2,3})$/;
/** Digits without `part` before them; a shorter number is that of an old copy of a file. */
const MIN_DIGITS = 2;
/** Fewer digits can be those of old copies, too. */
const CERTAIN_DIGITS = 3;

/** The name of a part. */
interface PartName {
  readonly whole: string;
  /** Names of the parts of one whole have the same kind. */
  readonly kind: string;
  readonly index: number;
  /** The suffixes that the first part may have. */
  readonly firsts: readonly string[];
  /** Whether files with such names may be old copies. */
  readonly isDoubtful: boolean;
}

function lettersToNumber(letters: string): number {
  return [...letters].reduce((all, letter) => all * 26 + letter.charCodeAt(0) - 97, 0);
}

/** Splits the name of a part; undefined when it is the name of a whole file. */
export function partName(name: string): PartName | undefined {
  const [, whole, word = '', digits] = NUMBERED.exec(name) ?? [];
  if (whole !== undefined && digits !== undefined) {
    if (word === '' && digits.length < MIN_DIGITS) return undefined;
    // Some programs fill up the numbers with zeros.
    const kind = word === '' ? `${digits.length} digits` : word;
    const firsts = [0, 1].map((first) => `${word}${String(first).padStart(digits.length, '0')}`);
    return {
      whole,
      kind,
      index: Number(digits),
      firsts: word === '' ? firsts : [...firsts, 'part0', 'part1'],
      isDoubtful: word === '' && digits.length < CERTAIN_DIGITS,
    };
  }
  const [, stem, letters] = LETTERED.exec(name) ?? [];
  if (stem === undefined || letters === undefined) return undefined;
  const kind = `${letters.length} letters`;
  const firsts = ['a'.repeat(letters.length)];
  return { whole: stem, kind, index: lettersToNumber(letters), firsts, isDoubtful: false };
}

/** The parts of a whole among the names of a directory, by their places. */
export function partsAmong(names: readonly string[], { whole, kind }: PartName): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (const name of names) {
    const part = partName(name);
    if (part?.whole === whole && part.kind === kind) found.set(part.index, name);
  }
  return found;
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/**
 * @param isDoubtful whether the files may be old copies
 * @throws ImageError when a part is no plain file, or the sizes of the parts do not fit together
 */
async function checkParts(paths: readonly string[], isDoubtful: boolean): Promise<void> {
  const sizes: number[] = [];
  for (const path of paths) {
    const found = await lstat(path);
    if (!found.isFile()) {
      throw new ImageError(
        `${printable(path)} has the name of a part of the image, but is no plain file: rename it, ` +
          'or use --format=raw to serve the first part alone',
      );
    }
    sizes.push(found.size);
  }
  const [first = 0] = sizes;
  // Copies have one size; split(1) with a size makes the last part smaller.
  if (isDoubtful && sizes.every((size) => size === first))
    throw new ImageError(
      `${printable(paths[0] ?? '')} is the first of ${paths.length} parts, or an old copy: join the parts with cat, ` +
        'or use --format=raw to serve this file alone',
    );
  // split(1) by number gives the remainder to the last part, or a byte of it to each of the first ones.
  const odd = sizes.findIndex((size, i) =>
    i < sizes.length - 1 ? Math.abs(size - first) > 1 : size > first + sizes.length,
  );
  if (odd < 0) return;
  throw new ImageError(
    `${printable(paths[odd] ?? '')} has not the size of the first part: get it again, or join the parts with cat, ` +
      'or use --format=raw to serve this file alone',
  );
}

/**
 * The paths of all parts, when the file at `path` is the first of several; undefined when it is a whole file.
 * @throws ImageError when it is a further part, when a part is missing, and when the parts do not fit together
 */
export async function partsOf(path: string): Promise<readonly string[] | undefined> {
  const [directory, name] = [dirname(path), basename(path)];
  const own = partName(name);
  if (own === undefined) return undefined;
  const firsts = own.firsts.map((suffix) => `${own.whole}.${suffix}`);
  const there = await Promise.all(firsts.map((first) => isThere(join(directory, first))));
  const firstName = firsts.find((_, i) => there[i]);
  if (firstName === undefined) return undefined;
  const shown = printable(path);
  if (firstName !== name) {
    throw new ImageError(
      `${shown} is a part of ${printable(own.whole)}: name the first one, ${printable(firstName)}, ` +
        'or use --format=raw to serve this file alone',
    );
  }
  const names = await readdir(directory).catch((error: unknown) => {
    throw new ImageError(`cannot list the parts of ${shown}: ${reasonOf(error)}`, { cause: error });
  });
  const found = partsAmong(names, own);
  if (found.size < 2) return undefined;
  if (found.size > MAX_PARTS)
    throw new ImageError(`${shown} has more than ${MAX_PARTS} parts: join them with cat`);
  const parts: string[] = [];
  const last = Math.max(...found.keys());
  for (let index = own.index; index <= last; index++) {
    const part = found.get(index);
    if (part === undefined) {
      throw new ImageError(
        `the part after ${printable(parts.at(-1) ?? '')} is missing: get it, ` +
          'or use --format=raw to serve the first part alone',
      );
    }
    parts.push(join(directory, part));
  }
  await checkParts(parts, own.isDoubtful);
  return parts;
}
