// The command lines of qemu-nbd. Pure.
//
// QEMU gets every node of the tree in one word (`json:{…}`), with `backing: null` where there is nothing below: what is
// not said, it takes from the headers of images.

import { printable } from '../nbd/text.js';
import type { NbdUri } from '../nbd/uri.js';
import { ImageError } from './errors.js';
import { type ImageFormat, qemuDriver } from './formats.js';

/** A block node of QEMU: options, and nodes below; `null` is none. */
export interface BlockNode {
  readonly [option: string]: string | BlockNode | null;
}

/** Bytes of a sector, of which formats count. */
export const SECTOR = 512n;

/** A tree as QEMU reads it. SOCKET_BELOW stays as it is, since what will be there needs no escapes. */
function jsonOf(value: BlockNode | string | null): string {
  if (value === SOCKET_BELOW) return `"${SOCKET_BELOW}"`;
  if (value === null || typeof value === 'string') return JSON.stringify(value);
  const members = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}:${jsonOf(one)}`);
  return `{${members.join(',')}}`;
}

/** Whether images of a format (QEMU's name) can have a backing file, which QEMU opens unless it is told otherwise. */
export function takesBacking(driver: string): boolean {
  return ['qcow2', 'qcow', 'qed', 'vmdk'].includes(driver);
}

/** The node of an image that names no other file. */
export function imageNode(format: ImageFormat, file: BlockNode): BlockNode {
  const driver = qemuDriver(format);
  return takesBacking(driver) ? { driver, file, backing: null } : { driver, file };
}

/** The node of a local file or device. */
export function fileNode(path: string, isDevice: boolean): BlockNode {
  return { driver: isDevice ? 'host_device' : 'file', filename: path };
}

/** Stands for the path of the socket of a server below, which is known when that runs; no word has a NUL. */
export const SOCKET_BELOW = '\0';

/** The node of the server below. */
export const NODE_BELOW: BlockNode = { driver: 'nbd', server: { type: 'unix', path: SOCKET_BELOW } };

/** The node of a VMDK whose descriptor is at the server below. */
export function descriptorNode(): BlockNode {
  return { driver: 'vmdk', file: NODE_BELOW, backing: null };
}

/** @throws ImageError for transports that QEMU does not have */
function checkTransport({ tls, transport, socket = '' }: NbdUri): void {
  if (!tls && (transport === 'tcp' || transport === 'unix') && !socket.startsWith('\0')) return;
  throw new ImageError(
    'this needs qemu-nbd, which supports nbd:// and nbd+unix:// servers only: ' +
      'mount the export first, and then its file as a raw image',
  );
}

/** The node of an export of an NBD server. @throws ImageError for transports that QEMU does not have */
export function nbdNode(uri: NbdUri): BlockNode {
  checkTransport(uri);
  const { transport, host, port, socket = '', exportName } = uri;
  const server: BlockNode =
    transport === 'unix' ? { type: 'unix', path: socket } : { type: 'inet', host, port: String(port) };
  return { driver: 'nbd', server, ...(exportName === '' ? {} : { export: exportName }) };
}

/** The URI of an export as QEMU reads it. @throws ImageError for transports that QEMU does not have */
export function nbdUriForQemu(uri: NbdUri): string {
  checkTransport(uri);
  const { transport, host, port, socket = '', exportName } = uri;
  const name = encodeURIComponent(exportName);
  if (transport === 'unix') return `nbd+unix:///${name}?socket=${encodeURIComponent(socket)}`;
  return `nbd://${host.includes(':') ? `[${host}]` : host}:${port}/${name}`;
}

/** What is served of a node. */
export interface QemuRequest {
  /** The image. */
  readonly image: BlockNode;
  readonly readOnly: boolean;
  /** An internal snapshot; needs a server of its own when a part of it or an overlay is wanted. */
  readonly snapshotName?: string | undefined;
  readonly partition?: { readonly offset: bigint; readonly size: bigint } | undefined;
  /** Whether writes go to a file that qemu-nbd throws away at its end, or the qcow2 where they are kept. */
  readonly overlay?: 'temporary' | KeptOverlay | undefined;
}

/** The qcow2 where writes are kept. */
export interface KeptOverlay {
  /** Absolute. */
  readonly path: string;
  /** Its header, which was compared, names what is below: a server, for which there is no other way. */
  readonly namesServer?: boolean;
}

/** The tree of what is served. */
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
  const { readOnly, snapshotName, partition, overlay } = request;
  const words = ['qemu-nbd'];
  if (readOnly || snapshotName !== undefined) words.push('--read-only');
  else words.push('--discard=unmap');
  if (overlay === 'temporary') words.push('--snapshot');
  if (snapshotName !== undefined) {
    if (partition !== undefined || overlay !== undefined)
      throw new ImageError(`the snapshot ${printable(snapshotName)} must be served by a server of its own`);
    words.push(`--load-snapshot=snapshot.name=${snapshotName.replaceAll(',', ',,')}`);
  }
  return [...words, `json:${jsonOf(treeOf(request))}`];
}
