// Makes the server's command line for an image. Pure.
//
// qemu-nbd serves local images, since it locks them against a second user; nbdkit serves remote or compressed raw
// disks; a qemu-nbd on top of an nbdkit serves remote or compressed images of other formats. Our proxy stands between two
// servers where one would lose the other with the first unreadable sector, and cuts off what QEMU has added to a size.

import { type Confinement, confinedWords, LAUNCHER } from '../transport/confine.js';
import { proxyWords } from '../transport/proxy.js';
import type { ImageFile } from './chain.js';
import type { Decryption } from './encryption.js';
import type { Compression, ImageFormat } from './formats.js';
import { type NbdkitRequest, nbdkitServer, overNbdkit, overServer, overText } from './nbdkit.js';
import {
  type BlockNode,
  fileNode,
  imageNode,
  NODE_BELOW,
  nbdNode,
  type QemuRequest,
  qemuNbdWords,
} from './qemu.js';
import type { Source } from './source.js';

/** How QEMU opens a local image. */
export interface ImageTree {
  readonly node: BlockNode;
  readonly descriptor: string | undefined;
  readonly files: readonly ImageFile[];
}

/** An image, and how to serve it. */
export interface Plan {
  readonly source: Source;
  /** How QEMU opens a local image that is not compressed; undefined: the image names no other file. */
  readonly tree?: ImageTree | undefined;
  /** Whether servers get a sandbox. */
  readonly isConfined?: boolean;
  /** Whether the source is a block device. */
  readonly isDevice: boolean;
  readonly compression: Compression | undefined;
  /** The place of the image in an archive, in bytes. */
  readonly range?: { readonly offset: bigint; readonly size: bigint } | undefined;
  readonly format: ImageFormat;
  /** The size of a raw disk in bytes, where it is no multiple of a sector: QEMU would round it up. */
  readonly oddSize?: bigint | undefined;
  readonly readOnly: boolean;
  readonly snapshotName: string | undefined;
  /** Whether `snapshotName` is a number that `qemu-img snapshot -l` shows as ID. */
  readonly isSnapshotId?: boolean;
  /** Whether QEMU opens the image without locks, read-only, although a program may write to it. */
  readonly isShared?: boolean;
  /** The absolute path of the file with the image's key; undefined: the image is not encrypted. */
  readonly keyFile?: string | undefined;
  /** How an encrypted image without a tree is decrypted. */
  readonly decryption?: Decryption | undefined;
  readonly partition: { readonly offset: bigint; readonly size: bigint } | undefined;
  /** A kept overlay has an absolute path. */
  readonly overlay: 'temporary' | { readonly path: string } | undefined;
}

/** The programs that a plan needs. */
export type Program = 'qemu-nbd' | 'nbdkit';

/** Whether nbdkit must fetch, unpack or join the bytes, or find them in an archive. */
function needsNbdkit({ source, compression, range }: Plan): boolean {
  if (compression !== undefined || range !== undefined) return true;
  return (
    source.kind === 'web' || source.kind === 'ssh' || (source.kind === 'file' && source.parts !== undefined)
  );
}

/** Whether only QEMU can interpret the bytes. */
function needsQemu({ source, format, overlay }: Plan): boolean {
  return format !== 'raw' || overlay !== undefined || source.kind === 'nbd';
}

/**
 * Whether the image needs its own qemu-nbd below another one: an internal snapshot with a partition or overlay, and a
 * VMDK descriptor or an encrypted image, which another server has, with a kept overlay.
 */
export function isStacked({ snapshotName, partition, overlay, tree, decryption }: Plan): boolean {
  if (snapshotName !== undefined) return partition !== undefined || overlay !== undefined;
  return (tree?.descriptor !== undefined || decryption !== undefined) && typeof overlay === 'object';
}

/** Whether a kept overlay lies over a server, which its header then names. */
export function isOverServer(plan: Plan): boolean {
  return isStacked(plan) || needsNbdkit(plan) || plan.source.kind === 'nbd';
}

/** The programs that a plan needs; nbdkit serves a raw file where there is no qemu-nbd. */
export function programsFor(plan: Plan, hasQemuNbd: boolean): readonly Program[] {
  if (needsNbdkit(plan)) return needsQemu(plan) ? ['nbdkit', 'qemu-nbd'] : ['nbdkit'];
  if (plan.tree?.descriptor !== undefined) return ['nbdkit', 'qemu-nbd'];
  // nbdkit keeps the size.
  const isOdd = plan.oddSize !== undefined && plan.partition === undefined;
  return needsQemu(plan) || (hasQemuNbd && !isOdd) ? ['qemu-nbd'] : ['nbdkit'];
}

/** The size that QEMU would round up; undefined where it does not. */
function sizeToKeep(plan: Plan, hasQemuNbd: boolean): bigint | undefined {
  if (plan.partition !== undefined || !programsFor(plan, hasQemuNbd).includes('qemu-nbd')) return undefined;
  return plan.oddSize;
}

/** The request for a qemu-nbd that serves `image`. */
function qemuRequest(plan: Plan, image: BlockNode): QemuRequest {
  const { readOnly, snapshotName, isSnapshotId, keyFile, partition, overlay } = plan;
  const kept = typeof overlay === 'object' ? { ...overlay, namesServer: isOverServer(plan) } : overlay;
  return { image, readOnly, snapshotName, isSnapshotId, keyFile, partition, overlay: kept };
}

/** The request for an nbdkit that serves the image, or a part of it. */
function nbdkitRequest(plan: Plan, source: NbdkitRequest['source'], part: Plan['partition']): NbdkitRequest {
  const readOnly = plan.readOnly || plan.overlay !== undefined;
  const { offset = 0n } = plan.range ?? {};
  const range = part === undefined ? plan.range : { offset: offset + part.offset, size: part.size };
  return { source, compression: plan.compression, range, readOnly };
}

/** The files that a plan writes to. */
export function writtenFiles({ source, tree, readOnly, overlay, snapshotName }: Plan): readonly string[] {
  if (typeof overlay === 'object') return [overlay.path];
  if (source.kind !== 'file' || readOnly || overlay !== undefined || snapshotName !== undefined) return [];
  return tree?.files.filter(({ isTop }) => isTop).map(({ path }) => path) ?? [source.path];
}

/** The files below those that a plan writes to: the written blocks count only together with theirs. */
export function filesBelow(plan: Plan): readonly string[] {
  const { source, tree, overlay } = plan;
  const written = writtenFiles(plan);
  if (source.kind !== 'file' || (written.length === 0 && overlay === undefined)) return [];
  const files = tree?.files.map(({ path }) => path) ?? [source.path];
  return files.filter((path) => !written.includes(path));
}

/** The files that the qemu-nbd of a plan may open; `isUpper`: a server below has the image. */
function allowedToQemu(plan: Plan, isUpper: boolean): Confinement {
  const { source, tree, overlay, keyFile } = plan;
  const files =
    isUpper || source.kind !== 'file' ? [] : (tree?.files ?? [{ path: source.path, isTop: true }]);
  const paths = files.map(({ path }) => path);
  const written = writtenFiles(plan).filter((path) => paths.includes(path) || typeof overlay === 'object');
  const keys = keyFile === undefined ? [] : [keyFile];
  return {
    readable: [...paths.filter((path) => !written.includes(path)), ...keys],
    writable: written,
    temporary: overlay === 'temporary',
    network: source.kind === 'nbd' && source.parsed.transport === 'tcp',
  };
}

/** A qemu-nbd that serves `image`. */
function qemuServer(plan: Plan, image: BlockNode, isUpper: boolean): readonly string[] {
  // The server below has chosen the snapshot.
  const snapshotName = isStacked(plan) ? undefined : plan.snapshotName;
  const words = qemuNbdWords({ ...qemuRequest(plan, image), snapshotName });
  return plan.isConfined ? confinedWords(words, allowedToQemu(plan, isUpper)) : words;
}

/**
 * Puts words that begin with nbdkit into the sandbox. An nbdkit with a remote source gets none, since it needs the
 * keys and certificates of the user.
 * @param upper the files that the sandboxed server on top may open
 */
function confineNbdkit(
  words: readonly string[],
  { source, compression, readOnly }: NbdkitRequest,
  upper: Confinement | undefined,
): readonly string[] {
  if (source.kind !== 'file') return words;
  const { readable = [], writable = [] } = upper ?? {};
  const files = source.parts ?? [source.path];
  const launcher = upper === undefined ? [] : [LAUNCHER];
  return confinedWords(words, {
    readable: [...readable, ...launcher, ...(readOnly ? files : [])],
    writable: [...writable, ...(readOnly ? [] : files)],
    temporary: compression === 'gzip' || compression === 'bzip2' || upper?.temporary === true,
    sockets: upper !== undefined,
  });
}

/** An nbdkit alone. */
export function nbdkitAlone(request: NbdkitRequest, isConfined: boolean): readonly string[] {
  const words = nbdkitServer(request);
  return isConfined ? confineNbdkit(words, request, undefined) : words;
}

/** A qemu-nbd on top of the nbdkit that fetches or unpacks the image. */
function qemuOverNbdkit(plan: Plan, source: NbdkitRequest['source']): readonly string[] {
  const request = nbdkitRequest(plan, source, undefined);
  const words = overNbdkit(
    request,
    qemuServer(plan, imageNode(plan.format, NODE_BELOW, plan.decryption), true),
  );
  return plan.isConfined ? confineNbdkit(words, request, allowedToQemu(plan, true)) : words;
}

/** Two servers: one for the image, one on top for its partition or overlay. */
function stackedServer(plan: Plan, hasQemuNbd: boolean): readonly string[] {
  const below: Plan = { ...plan, partition: undefined, overlay: undefined, readOnly: true };
  const upper = qemuServer({ ...plan, keyFile: undefined }, imageNode('raw', NODE_BELOW), true);
  return overServer(serverWords(below, hasQemuNbd), upper);
}

/** The command line of the server without the one that cuts off what QEMU has rounded up. */
function wordsBelow(plan: Plan, hasQemuNbd: boolean): readonly string[] {
  const { source, format, tree, isConfined = false } = plan;
  if (isStacked(plan)) return stackedServer(plan, hasQemuNbd);
  if (source.kind === 'nbd')
    return qemuServer(plan, imageNode(format, nbdNode(source.parsed), plan.decryption), false);
  if (!programsFor(plan, hasQemuNbd).includes('qemu-nbd'))
    return nbdkitAlone(nbdkitRequest(plan, source, plan.partition), isConfined);
  if (needsNbdkit(plan)) return qemuOverNbdkit(plan, source);
  if (source.kind !== 'file') throw new Error('qemu-nbd alone serves files');
  const { node = imageNode(format, fileNode(source.path, plan.isDevice)), descriptor } = tree ?? {};
  const words = qemuServer(plan, plan.isShared ? { ...node, 'force-share': 'on' } : node, false);
  return descriptor === undefined ? words : overText(descriptor, words);
}

/**
 * The command line of the server, which takes its socket by socket activation.
 * @throws ImageError where no server supports the plan
 */
export function serverWords(plan: Plan, hasQemuNbd: boolean): readonly string[] {
  const words = wordsBelow(plan, hasQemuNbd);
  const size = sizeToKeep(plan, hasQemuNbd);
  return size === undefined ? words : proxyWords(words, { size });
}
