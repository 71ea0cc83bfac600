// Whether the other files that an image names may be opened for it.
//
// An image may come from a stranger, and name any file of this machine as its backing file. So only plain
// files beside the image are taken without a question, and only with a format that is recorded, since QEMU
// would else guess it from content that a guest has written. Used by prepare.ts.

import { open, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { printable } from '../nbd/text.js';
import { reasonOf } from '../transport/errors.js';
import { ImageError } from './errors.js';
import { HEAD_LENGTH, type Reference, referencesOf } from './references.js';

/** Images that may build on one another. */
const MAX_CHAIN = 64;

/** The first bytes of a local file. */
export async function readHead(path: string, length = HEAD_LENGTH): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** Why a reference is not followed without a question; undefined when it is. */
function objectionTo({ name, format }: Reference): string | undefined {
  if (name === '') return 'whose name cannot be read';
  if (name.includes('/') || name.includes(':') || name === '..') return 'which is not a file beside it';
  return format === undefined ? 'whose format is not recorded' : undefined;
}

/** Whether `name`, a plain name, is a file of `folder` itself and no link out of it. */
async function isBeside(folder: string, name: string): Promise<boolean> {
  try {
    return dirname(await realpath(join(folder, name))) === (await realpath(folder));
  } catch {
    // It is not there; QEMU says so better.
    return true;
  }
}

function refusal(image: string, reference: Reference, why: string, cure: string): ImageError {
  const what = `${reference.role} ${printable(reference.name, 300)}`.trimEnd();
  return new ImageError(`${printable(image)} names the ${what}, ${why}: ${cure}`);
}

/** What the user may do about the objection. */
function cureFor(image: string, format: string, { name, role, format: recorded }: Reference): string {
  const trust = `if you trust the image, say --format=${format}`;
  if (recorded !== undefined || role !== 'backing file' || name === '') return trust;
  return `qemu-img rebase -u -F FORMAT -b ${printable(name)} ${printable(image)} records it; or, ${trust}`;
}

/**
 * Looks at an image's references, and those of its backing files. Returns a line for each that is followed.
 * @param trusted whether the user has vouched for the image by naming its format
 * @throws ImageError for one that must not be followed without a question
 */
export async function checkReferences(path: string, format: string, trusted: boolean): Promise<string[]> {
  const lines: string[] = [];
  let [image, itsFormat] = [path, format];
  for (let depth = 0; depth < MAX_CHAIN; depth++) {
    const references = referencesOf(itsFormat, await headOf(image));
    const folder = dirname(image);
    for (const reference of references) {
      const link = 'which is a link to elsewhere';
      const why = objectionTo(reference) ?? ((await isBeside(folder, reference.name)) ? undefined : link);
      if (why !== undefined && !trusted)
        throw refusal(image, reference, why, cureFor(image, format, reference));
      if (reference.role !== 'extent') {
        lines.push(`${printable(image)} builds on the ${reference.role} ${printable(reference.name, 300)}`);
      }
    }
    const [next] = references.filter(({ role }) => role === 'backing file' || role === 'parent');
    if (next === undefined || trusted) return lines;
    [image, itsFormat] = [join(folder, next.name), next.format ?? 'raw'];
  }
  throw new ImageError(`${printable(path)} builds on more than ${MAX_CHAIN} other images`);
}

/** Images that cannot be read, or are not there, name nothing here; QEMU says what is wrong with them. */
async function headOf(path: string): Promise<Buffer> {
  try {
    return await readHead(path);
  } catch (error) {
    throw new ImageError(`cannot read ${printable(path)}: ${reasonOf(error)}`, { cause: error });
  }
}

/** @throws ImageError when an image that is not a local file names another file at all */
export function refuseReferences(name: string, format: string, head: Buffer): void {
  const [reference] = referencesOf(format, head);
  if (reference === undefined) return;
  throw refusal(
    name,
    reference,
    'which cannot be opened for an image that is not a plain local file',
    'convert it',
  );
}
