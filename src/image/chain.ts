// Builds the block nodes that QEMU opens for a local image: every file that a header names, by its real path.
//
// An untrusted image may name any file of this machine as its backing file. So without --allow-references only regular
// files in the image's directory are accepted, whatever path leads there, and only with a recorded format, since QEMU
// would otherwise guess the format from content that a guest has written. QEMU gets the files that were checked here,
// or `null`; it follows no other name in a header. Used by prepare.ts.

import { open, realpath, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { printable } from '../nbd/text.js';
import { codeOf, reasonOf } from '../transport/errors.js';
import { decryptionOf, keyMissing } from './encryption.js';
import { ImageError } from './errors.js';
import { formatOfContent, type ImageFormat, qemuDriver } from './formats.js';
import { withFile } from './look.js';
import { type BlockNode, descriptorNode, fileNode, SECTOR, takesBacking } from './qemu.js';
import { HEAD_LENGTH, type Reference, utf8 } from './reference.js';
import { referencesOf } from './references.js';
import { neededOfDataFile, truncationLine, truncationOf } from './truncated.js';
import {
  descriptorWith,
  flatExtent,
  isEmbeddedDescriptor,
  neededOfExtent,
  parseVmdk,
  type Vmdk,
} from './vmdk.js';

/** Maximum number of files of an image. */
const MAX_FILES = 256;

/** The formats that a backing file may have, by QEMU's names. */
const KNOWN_FORMATS = ['raw', 'qcow2', 'qcow', 'qed', 'vdi', 'vpc', 'vhdx', 'vmdk'];

/** Names that QEMU would not take as a file: `nbd:…`, `json:…`. */
const HAS_PROTOCOL = /^[^/]*:/;

/** A file that an image is made of. */
export interface ImageFile {
  /** Absolute. */
  readonly path: string;
  /** Whether writes to the disk go to this file. */
  readonly isTop: boolean;
}

/** How to open a local image. */
export interface LocalImage {
  /** Its real path. */
  readonly path: string;
  readonly isDevice: boolean;
  readonly node: BlockNode;
  /** The descriptor of a VMDK, which `node` has below it; undefined: it has none. */
  readonly descriptor: string | undefined;
  /** All files that are opened. */
  readonly files: readonly ImageFile[];
  /** Lines for the user. */
  readonly lines: readonly string[];
}

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

/** The real path of a file. @throws ImageError when it is not UTF-8: a command line must be text */
export async function realPathOf(path: string): Promise<string> {
  const bytes = await realpath(path, { encoding: 'buffer' });
  const real = utf8(bytes);
  if (real !== '') return real;
  throw new ImageError(`${printable(bytes)}: the name is not UTF-8: rename the file or its directory`);
}

/** Why a reference is not followed even in a trusted image; undefined when it is. */
function impossibilityOf({ name, format, role }: Reference): string | undefined {
  if (name === '') return 'whose name cannot be read';
  if (HAS_PROTOCOL.test(name)) return 'which is not the name of a file';
  if (role === 'extent' && /["\r\n]/.test(name)) return 'whose name cannot be read';
  if (format === undefined || KNOWN_FORMATS.includes(format)) return undefined;
  // Other names may be drivers that open anything.
  return `whose format ${printable(format, 40)} is unknown to nbdfuse`;
}

/** Why a reference is not followed without the user's consent; undefined when it is. */
function objectionTo({ name, format, role }: Reference): string | undefined {
  if (role === 'data file' && basename(name).startsWith('.')) return 'which is a hidden file';
  return format === undefined ? 'whose format is not recorded' : undefined;
}

function refusal(image: string, reference: Reference, why: string, cure: string): ImageError {
  const what = `${reference.role} ${printable(reference.name, 300)}`.trimEnd();
  return new ImageError(`${printable(image)} names the ${what}, ${why}: ${cure}`);
}

/** The next step for the user after an objection. @param format of the image that names the file, QEMU's name */
function cureFor(image: string, format: string, { name, role, format: recorded }: Reference): string {
  const trust = 'if you trust the image, use --allow-references';
  // Headers of qcow have no place for it, those of qed only for raw.
  const canRecord = format === 'qcow2' && recorded === undefined && role === 'backing file';
  if (!canRecord) return trust;
  return `record it with qemu-img rebase -u -F FORMAT -b ${printable(name)} ${printable(image)}; or, ${trust}`;
}

/** The next step for an image that QEMU must not open. */
const CONVERT = 'convert it to a single file where it was made (qemu-img convert)';

/** A file that an image names, after its check. */
interface Followed {
  readonly path: string;
  readonly real: string;
  readonly isDevice: boolean;
}

/** Builds the nodes of one image. */
class TreeBuilder {
  readonly files: ImageFile[] = [];
  readonly lines: string[] = [];
  readonly #path: string;
  readonly #trusted: boolean;
  readonly #hasKey: boolean;

  /** @param path of the image as the user typed it */
  constructor(path: string, trusted: boolean, hasKey: boolean) {
    this.#path = path;
    this.#trusted = trusted;
    this.#hasKey = hasKey;
  }

  /**
   * Checks the file that a reference of `image`, which has `format` (QEMU's name), names.
   * @throws ImageError when it must not be followed
   */
  async #follow(image: string, format: string, reference: Reference): Promise<Followed> {
    const { name, role } = reference;
    const impossible = impossibilityOf(reference);
    if (impossible !== undefined) throw refusal(image, reference, impossible, CONVERT);
    const refuse = (why: string): ImageError =>
      refusal(image, reference, why, cureFor(image, format, reference));
    const why = this.#trusted ? undefined : objectionTo(reference);
    if (why !== undefined) throw refuse(why);
    const directory = dirname(image);
    const path = isAbsolute(name) ? name : join(directory, name);
    const real = await realPathOf(path).catch((error: unknown) => {
      if (error instanceof ImageError) throw error;
      const reason =
        codeOf(error) === 'ENOENT' ? 'which does not exist' : `which cannot be opened (${reasonOf(error)})`;
      throw refusal(image, reference, reason, 'put it into the directory of the image');
    });
    if (!this.#trusted && dirname(real) !== (await realPathOf(directory)))
      throw refuse(
        name.includes('/') ? 'which is in another directory' : 'which is a link to another directory',
      );
    if (role !== 'extent' && this.files.some((file) => file.path === real))
      throw refusal(
        image,
        reference,
        'which needs this image itself',
        'name the right file with qemu-img rebase -u',
      );
    const found = await stat(real);
    if (!found.isFile() && !(this.#trusted && found.isBlockDevice()))
      throw refuse('which is not a regular file');
    const isTop = role === 'extent' || (role === 'data file' && image === this.#path);
    this.files.push({ path: real, isTop });
    if (this.files.length > MAX_FILES) {
      throw new ImageError(`${printable(image)} depends on more than ${MAX_FILES} files`);
    }
    if (role !== 'extent') {
      this.lines.push(`${printable(image)} uses the ${role} ${printable(name, 300)}`);
    }
    return { path, real, isDevice: found.isBlockDevice() };
  }

  /** The node of an image that is not a descriptor of VMDK. @param format QEMU's name */
  async build(image: Followed, format: string): Promise<BlockNode> {
    const { path, real, isDevice } = image;
    const node: Record<string, BlockNode | null | string> = {
      driver: format,
      file: fileNode(real, isDevice),
    };
    if (takesBacking(format)) node.backing = null;
    if (format === 'raw') return node;
    const head = await headOf(path);
    const decryption = decryptionOf(format, head);
    if (decryption !== undefined && !this.#hasKey) throw keyMissing(printable(path));
    Object.assign(node, decryption);
    if (format === 'vmdk') refuseDescriptor(path, head);
    if (!isDevice) await this.#checkLength(path, format, head);
    for (const reference of referencesOf(format, head)) {
      if (format === 'vpc') throw refusal(path, reference, 'which QEMU cannot open', CONVERT);
      const below = await this.#follow(path, format, reference);
      if (reference.role === 'data file') {
        node['data-file'] = fileNode(below.real, below.isDevice);
        if (!below.isDevice) await this.#checkDataFile(path, head, below);
      } else
        node.backing = await this.build(below, reference.format ?? formatOfBacking(await headOf(below.path)));
    }
    return node;
  }

  /** Adds a line where a file is cut short by its own tables. */
  async #checkLength(path: string, format: string, head: Buffer): Promise<void> {
    this.#warn(await withFile(path, (file) => truncationOf(printable(path), format, head, file)));
  }

  /** Adds a line where the data file of the qcow2 at `path` is cut short. */
  async #checkDataFile(path: string, head: Buffer, dataFile: Followed): Promise<void> {
    const needed = await withFile(path, (file) => neededOfDataFile(file, head));
    this.#warn(truncationLine(printable(dataFile.path), needed, await sizeOf(dataFile)));
  }

  #warn(line: string | undefined): void {
    if (line !== undefined) this.lines.push(line);
  }

  /** The real paths of the extents that the VMDK descriptor at `path` names. */
  async extents(
    path: string,
    { extents }: Extract<Vmdk, { kind: 'descriptor' }>,
  ): Promise<readonly string[]> {
    const paths: string[] = [];
    for (const extent of extents) {
      const { name, type } = extent;
      const below = await this.#follow(path, 'vmdk', { role: 'extent', name, format: 'vmdk' });
      if (/["\r\n]/.test(below.real)) {
        throw new ImageError(
          `${printable(below.real)}: QEMU cannot open an extent with such a name: rename it`,
        );
      }
      const needed = neededOfExtent(extent);
      if (needed !== undefined && !below.isDevice && needed > (await sizeOf(below)))
        throw cutShort(below.path, needed);
      if (type.includes('SPARSE')) {
        const head = await headOf(below.path);
        refuseDescriptor(below.path, head);
        await this.#checkLength(below.path, 'vmdk', head);
      }
      paths.push(below.real);
    }
    return paths;
  }
}

const sizeOf = async ({ real }: Followed): Promise<bigint> => (await stat(real, { bigint: true })).size;

/** QEMU would read the missing bytes as zeros. */
function cutShort(path: string, needed: bigint): ImageError {
  return new ImageError(
    `${printable(path)} is cut short: the descriptor of the disk uses its first ${needed} bytes: get it again`,
  );
}

/** Only for a trusted image: QEMU would guess as well. */
function formatOfBacking(head: Buffer): string {
  return qemuDriver(formatOfContent(head));
}

/** QEMU would open the files that a descriptor names. @throws ImageError when a VMDK file is a descriptor */
function refuseDescriptor(path: string, head: Buffer): void {
  const isOne = isEmbeddedDescriptor(head) || parseVmdk(head).kind === 'descriptor';
  if (isOne)
    throw new ImageError(`${printable(path)} is a descriptor that names other files, not a disk: ${CONVERT}`);
}

/** @throws ImageError when a file cannot be read */
async function headOf(path: string): Promise<Buffer> {
  try {
    return await readHead(path);
  } catch (error) {
    throw new ImageError(`cannot read ${printable(path)}: ${reasonOf(error)}`, { cause: error });
  }
}

/** The nodes of a VMDK that is a descriptor, and the descriptor that QEMU gets. */
async function describedDisk(
  builder: TreeBuilder,
  path: string,
  vmdk: Extract<Vmdk, { kind: 'descriptor' }>,
) {
  const { parent, extents } = vmdk;
  if (extents.length === 0) throw new ImageError(`${printable(path)} names no extent: ${CONVERT}`);
  if (parent !== undefined) throw refusal(path, parent, 'in addition to extents', CONVERT);
  const paths = await builder.extents(path, vmdk);
  const flat = flatExtent(vmdk);
  if (flat === undefined) return { node: undefined, descriptor: descriptorWith(vmdk, paths) };
  const [offset, size] = [String(flat.offset * SECTOR), String(flat.sectors * SECTOR)];
  const node: BlockNode = { driver: 'raw', offset, size, file: fileNode(paths[0] ?? '', false) };
  return { node, descriptor: undefined };
}

/**
 * Checks an image's references, and those of its backing files.
 * @param path as the user typed it: names are relative to its directory
 * @param trusted whether the user allows every file that the image names
 * @throws ImageError for a reference that must not be followed
 */
export async function openLocalImage(
  path: string,
  format: ImageFormat,
  {
    trusted,
    isDevice,
    hasKey,
  }: { readonly trusted: boolean; readonly isDevice: boolean; readonly hasKey: boolean },
): Promise<LocalImage> {
  const builder = new TreeBuilder(path, trusted, hasKey);
  const real = await realPathOf(path);
  const image = { path, real, isDevice };
  const rest = { path: real, isDevice, files: builder.files, lines: builder.lines };
  const vmdk = format === 'vmdk' ? parseVmdk(await headOf(path)) : undefined;
  if (vmdk?.kind === 'descriptor') {
    const { node = descriptorNode(), descriptor } = await describedDisk(builder, path, vmdk);
    return { ...rest, node, descriptor };
  }
  builder.files.push({ path: real, isTop: true });
  return { ...rest, node: await builder.build(image, qemuDriver(format)), descriptor: undefined };
}

/** @throws ImageError when an image that is not a local file names another file, or cannot be inspected */
export function refuseReferences(name: string, format: ImageFormat, head: Buffer): void {
  // The magic bytes of a vhd and a dmg may be at the end; those of LUKS have been looked at with the key.
  if (!['raw', 'vhd', 'dmg', 'luks'].includes(format) && formatOfContent(head) !== format) {
    throw new ImageError(`${printable(name)} does not look like a ${format} image`);
  }
  const [reference] = referencesOf(format, head);
  if (reference === undefined) return;
  throw refusal(name, reference, 'which nbdfuse does not open for a remote or compressed image', CONVERT);
}
