// The command lines of qemu-nbd. Pure.
//
// QEMU gets every node of the tree in one word (`json:{…}`), with `backing: null` where there is nothing below: it
// takes missing options from the headers of images.

import { LONGEST_UNIX_PATH } from '../constants/unix-path.js';
import { printable } from '../nbd/text.js';
import { percentEncode } from '../nbd/uri/percent.js';
import type { NbdUri } from '../nbd/uri/uri.js';
import { type Decryption, keyWords } from './encryption.js';
import { ImageError } from './errors.js';
import { type ImageFormat, qemuDriver } from './formats.js';

/** A block node of QEMU: options, and nodes below; `null` is none. */
export interface BlockNode {
  readonly [option: string]: string | BlockNode | null;
}

/** Bytes of a sector, the unit of image formats. */
export const SECTOR = 512n;

/** A tree as QEMU reads it. SOCKET_BELOW stays unchanged, since its replacement needs no escapes. */
function jsonOf(value: BlockNode | string | null): string {
  if (value === SOCKET_BELOW) return `"${SOCKET_BELOW}"`;
  if (value === null || typeof value === 'string') return JSON.stringify(value);
  const members = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}:${jsonOf(one)}`);
  return `{${members.join(',')}}`;
}

/** Whether images of a format (QEMU's name) can have a backing file, which QEMU opens by default. */
export function takesBacking(driver: string): boolean {
  return ['qcow2', 'qcow', 'qed', 'vmdk'].includes(driver);
}

/** The node of an image that names no other file. */
export function imageNode(format: ImageFormat, file: BlockNode, decryption?: Decryption): BlockNode {
  const driver = qemuDriver(format);
  const node = { driver, file, ...decryption };
  return takesBacking(driver) ? { ...node, backing: null } : node;
}

/** The node of a local file or device. */
export function fileNode(path: string, isDevice: boolean): BlockNode {
  return { driver: isDevice ? 'host_device' : 'file', filename: path };
}

/** Placeholder for the socket's path of a server below, which is known when that runs; no word has a NUL. */
export const SOCKET_BELOW = '\0';

/** The node of the server below. */
export const NODE_BELOW: BlockNode = { driver: 'nbd', server: { type: 'unix', path: SOCKET_BELOW } };

/** The node of a VMDK whose descriptor is at the server below. */
export function descriptorNode(): BlockNode {
  return { driver: 'vmdk', file: NODE_BELOW, backing: null };
}

/** @throws ImageError for transports and paths that QEMU does not support */
function checkTransport({ tls, transport, socket = '', exportName }: NbdUri): void {
  if (/\p{Cs}/u.test(exportName))
    throw new ImageError(
      `the export name "${printable(exportName)}" is not UTF-8, which qemu-nbd does not support`,
    );
  const isPath = !socket.startsWith('\0');
  if (transport === 'unix' && isPath && Buffer.byteLength(socket) > LONGEST_UNIX_PATH)
    throw new ImageError(
      `this needs qemu-nbd, which cannot reach the socket ${printable(socket)}: its path is longer than ` +
        `${LONGEST_UNIX_PATH} bytes; make a symbolic link to it that has a shorter path`,
    );
  if (!tls && (transport === 'tcp' || transport === 'unix') && isPath) return;
  throw new ImageError(
    'this needs qemu-nbd, which supports nbd:// and nbd+unix:// servers only: ' +
      'mount the export first, and then its file as a raw image',
  );
}

/** The node of an export of an NBD server. @throws ImageError for transports that QEMU does not support */
export function nbdNode(uri: NbdUri): BlockNode {
  checkTransport(uri);
  const { transport, host, port, socket = '', exportName } = uri;
  const server: BlockNode =
    transport === 'unix' ? { type: 'unix', path: socket } : { type: 'inet', host, port: String(port) };
  return { driver: 'nbd', server, ...(exportName === '' ? {} : { export: exportName }) };
}

/** The URI of an export as QEMU reads it. @throws ImageError for transports that QEMU does not support */
export function nbdUriForQemu(uri: NbdUri): string {
  checkTransport(uri);
  const { transport, host, port, socket = '', exportName } = uri;
  const name = percentEncode(exportName);
  if (transport === 'unix') return `nbd+unix:///${name}?socket=${percentEncode(socket)}`;
  return `nbd://${host.includes(':') ? `[${host}]` : host}:${port}/${name}`;
}

/** A request to qemu-nbd. */
export interface QemuRequest {
  /** The image. */
  readonly image: BlockNode;
  readonly readOnly: boolean;
  /** An internal snapshot; with a partition or overlay it needs its own server. */
  readonly snapshotName?: string | undefined;
  /** Whether `snapshotName` is an ID. */
  readonly isSnapshotId?: boolean | undefined;
  /** The absolute path of the file with the image's key. */
  readonly keyFile?: string | undefined;
  readonly partition?: { readonly offset: bigint; readonly size: bigint } | undefined;
  /** The file for writes: a temporary one that qemu-nbd removes at its end, or a kept qcow2. */
  readonly overlay?: 'temporary' | KeptOverlay | undefined;
}

/** The qcow2 that keeps the writes. */
export interface KeptOverlay {
  /** Absolute. */
  readonly path: string;
  /** Whether its header, which was checked, names the server below, for which there is no other way. */
  readonly namesServer?: boolean;
}

/** The block nodes to serve. */
function treeOf({ image, partition, overlay }: QemuRequest): BlockNode {
  const whole = typeof overlay === 'object' ? overlayNode(overlay, image) : image;
  if (partition === undefined) return whole;
  return { driver: 'raw', offset: String(partition.offset), size: String(partition.size), file: whole };
}

function overlayNode({ path, namesServer = false }: KeptOverlay, image: BlockNode): BlockNode {
  const node = { driver: 'qcow2', file: fileNode(path, false) };
  return namesServer ? node : { ...node, backing: image };
}

/** The words of a qemu-nbd that takes its socket by socket activation. */
export function qemuNbdWords(request: QemuRequest): readonly string[] {
  const { readOnly, snapshotName, isSnapshotId, keyFile, partition, overlay } = request;
  // A failed READ of a sparse image makes it disconnect; nbdfuse connects again.
  const words = ['qemu-nbd', '--persistent'];
  if (readOnly || snapshotName !== undefined) words.push('--read-only');
  else words.push('--discard=unmap');
  if (keyFile !== undefined) words.push(...keyWords(keyFile));
  if (overlay === 'temporary') words.push('--snapshot');
  if (snapshotName !== undefined) {
    if (partition !== undefined || overlay !== undefined)
      throw new ImageError(`the snapshot ${printable(snapshotName)} must be served by a server of its own`);
    words.push(
      `--load-snapshot=snapshot.${isSnapshotId ? 'id' : 'name'}=${snapshotName.replaceAll(',', ',,')}`,
    );
  }
  return [...words, `json:${jsonOf(treeOf(request))}`];
}
