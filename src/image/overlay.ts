// The kept qcow2 overlay, which takes the writes instead of the image.
//
// Used by prepare.ts. The overlay's header names the image for QEMU; it is compared, so that an overlay is not put on
// another image by mistake. Over nbdkit, the header names nbdkit's socket without its directory, and the image as the
// export: nbdkit accepts any export name, and without nbdkit nobody can open the overlay and read its gaps as zeros.

import { execFile } from 'node:child_process';
import { lstat, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { FileLocks } from '../linux/file-lock.js';
import { printable } from '../nbd/text.js';
import { reasonOf } from '../transport/errors.js';
import { readHead, realPathOf } from './chain.js';
import { ImageError } from './errors.js';
import { formatOfContent, qemuDriver } from './formats.js';
import { SOCKET_NAME } from './nbdkit.js';
import { isOverServer, isStacked, type Plan } from './plan.js';
import { nbdUriForQemu } from './qemu.js';
import { referencesOf } from './references.js';
import { recordedName } from './source.js';

const run = promisify(execFile);

/** The image that an overlay's header names. */
export interface Backing {
  readonly name: string;
  /** QEMU's name. */
  readonly format: string;
}

/** How an image is recorded in its overlay. @throws ImageError for an NBD server that QEMU cannot open */
export async function backingOf(plan: Plan): Promise<Backing> {
  const { source, snapshotName, overlay, range, member } = plan;
  const isOwnServer = isStacked({ ...plan, overlay: overlay ?? { path: '' } });
  const format = isOwnServer ? 'raw' : qemuDriver(plan.format);
  if (source.kind === 'nbd') return { name: nbdUriForQemu(source.parsed), format };
  const text = source.kind === 'file' ? await realPathOf(source.path) : recordedName(source);
  if (!isOverServer({ ...plan, overlay: overlay ?? { path: '' } })) return { name: text, format };
  const server = { type: 'unix', path: SOCKET_NAME };
  const part = range ?? member;
  const place = part === undefined ? text : `${text}#${part.offset}+${part.size}`;
  const what = snapshotName === undefined ? place : `${place}@${snapshotName}`;
  const tree = { driver: format, file: { driver: 'nbd', export: what, server } };
  return { name: `json:${JSON.stringify(tree)}`, format };
}

/** The command line that creates an overlay without opening the image. @param size of the disk in bytes */
export function createWords(path: string, { name, format }: Backing, size: bigint): readonly string[] {
  return ['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', format, '-b', name, '-u', path, String(size)];
}

/** Creates an overlay. @throws ImageError with the message of qemu-img */
export async function createOverlay([program = '', ...words]: readonly string[]): Promise<void> {
  try {
    await run(program, words);
  } catch (error) {
    const { stderr } = error as { readonly stderr?: unknown };
    const why = typeof stderr === 'string' && stderr.trim() !== '' ? stderr.trim() : reasonOf(error);
    throw new ImageError(`cannot create the overlay: ${printable(why)}`, { cause: error });
  }
}

/** Removes a new overlay, unless another program has begun to write to it. @throws system errors */
export async function removeOverlay(path: string): Promise<void> {
  if (!(await lstat(path)).isFile()) return;
  const locks = new FileLocks();
  try {
    if (locks.lockForWriting(path, { offset: 0n, size: 0n }, true) === undefined) await rm(path);
  } finally {
    locks.release();
  }
}

/** @throws ImageError when a file is not an overlay of the image */
export async function checkOverlay(path: string, backing: Backing): Promise<void> {
  const shown = printable(path);
  const head = await readHead(path).catch((error: unknown) => {
    throw new ImageError(`cannot use ${shown} as an overlay: ${reasonOf(error)}: name a file`, {
      cause: error,
    });
  });
  if (formatOfContent(head) !== 'qcow2') {
    throw new ImageError(
      `${shown} is not an overlay: name a new file, or an overlay that nbdfuse has created`,
    );
  }
  const [reference, ...more] = referencesOf('qcow2', head);
  if (reference?.name === backing.name && reference.format === backing.format && more.length === 0) return;
  const what = reference === undefined ? 'nothing' : printable(`${reference.name} (${reference.format})`);
  throw new ImageError(
    `${shown} is an overlay of ${what}, not of ${printable(`${backing.name} (${backing.format})`)}: name another file`,
  );
}
