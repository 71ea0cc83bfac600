// Whether the other files that an image names may be opened for it.
//
// An image may come from a stranger, and name any file of this machine as its backing file. So only plain
// files beside the image are taken without a question, and only with a format that is recorded, since QEMU
// would else guess it from content that a guest has written. Used by prepare.ts.

import { open, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { printable } from '../nbd/text.js';
import { reasonOf } from '../transport/errors.js';
import { ImageError } from './errors.js';
import { formatOfContent, type ImageFormat } from './formats.js';
import { extentReferencesOf, HEAD_LENGTH, type Reference, referencesOf } from './references.js';

/** Other files, raw ones apart, that an image may be made of. */
const MAX_FILES = 256;

/** QEMU's names of the formats that a backing file may be recorded to have. */
const KNOWN_FORMATS = ['raw', 'qcow2', 'qcow', 'qed', 'vdi', 'vpc', 'vhdx', 'vmdk'];

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
  if (format === undefined) return 'whose format is not recorded';
  // Others may be drivers that open what they like.
  return KNOWN_FORMATS.includes(format)
    ? undefined
    : `whose format ${printable(format, 40)} is not known here`;
}

/** Why `name`, a plain name, is not taken for a file of `folder`; undefined when it is one and no link out of it. */
async function objectionAt(folder: string, name: string): Promise<string | undefined> {
  try {
    const real = await realpath(join(folder, name));
    if (dirname(real) !== (await realpath(folder))) return 'which is a link to elsewhere';
    return (await stat(real)).isFile() ? undefined : 'which is not a plain file';
  } catch {
    // It is not there: whoever reads it will say so.
    return undefined;
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
  const folder = dirname(path);
  const files = [{ image: path, references: referencesOf(format, await headOf(path)) }];
  // The list grows while it is gone through.
  for (const { image, references } of files) {
    if (files.length > MAX_FILES) {
      throw new ImageError(`${printable(path)} builds on more than ${MAX_FILES} other files`);
    }
    for (const reference of references) {
      const { name, role } = reference;
      const why = trusted ? undefined : (objectionTo(reference) ?? (await objectionAt(folder, name)));
      if (why !== undefined) throw refusal(image, reference, why, cureFor(image, format, reference));
      if (role !== 'extent') {
        lines.push(`${printable(image)} builds on the ${role} ${printable(name, 300)}`);
      }
      if (trusted || reference.format === 'raw') continue;
      files.push({ image: join(folder, name), references: await referencesBehind(folder, reference) });
    }
  }
  return lines;
}

/** What a file that is referred to names in its turn. */
async function referencesBehind(folder: string, { name, role, format = 'raw' }: Reference) {
  const head = await headOf(join(folder, name));
  return role === 'extent' ? extentReferencesOf(head) : referencesOf(format, head);
}

/** @throws ImageError when a file cannot be read */
async function headOf(path: string): Promise<Buffer> {
  try {
    return await readHead(path);
  } catch (error) {
    throw new ImageError(`cannot read ${printable(path)}: ${reasonOf(error)}`, { cause: error });
  }
}

/** @throws ImageError when an image that is not a local file names another file at all, or cannot be looked into */
export function refuseReferences(name: string, format: ImageFormat, head: Buffer): void {
  if (format !== 'raw' && format !== 'vhd' && formatOfContent(head) !== format) {
    throw new ImageError(`${printable(name)} does not begin like a ${format} image`);
  }
  const [reference] = referencesOf(format, head);
  if (reference === undefined) return;
  throw refusal(
    name,
    reference,
    'which cannot be opened for an image that is not a plain local file',
    'convert it',
  );
}
