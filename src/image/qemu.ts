// The command lines of qemu-nbd. Pure.
//
// Where an image alone is to be served, the plain options are used; where there is more (a partition, an
// overlay that is kept, a server below), a tree of block nodes is written as --image-opts.

import { printable } from '../nbd/text.js';
import type { NbdUri } from '../nbd/uri.js';
import { ImageError } from './errors.js';
import { type ImageFormat, qemuDriver } from './formats.js';

/** A block node of QEMU: options, and nodes below. */
export interface BlockNode {
  readonly [option: string]: string | BlockNode;
}

/** Options of a tree in the order of the tree: `driver=raw,file.driver=qcow2,…`; commas are doubled. */
export function imageOptions(node: BlockNode, prefix = ''): string {
  return Object.entries(node)
    .map(([name, value]) => {
      if (typeof value !== 'string') return imageOptions(value, `${prefix}${name}.`);
      return `${prefix}${name}=${value.replaceAll(',', ',,')}`;
    })
    .join(',');
}

/** A path that QEMU takes for nothing but a path. */
export function plainPath(path: string): string {
  return path.startsWith('/') || path.startsWith('./') || /^[^:/-][^:/]*(\/|$)/.test(path)
    ? path
    : `./${path}`;
}

/** The node of a local file or device. */
export function fileNode(path: string, isDevice: boolean): BlockNode {
  return { driver: isDevice ? 'host_device' : 'file', filename: path };
}

/** Stands for the path of the socket of a server below, which is known when that runs; no word has a NUL. */
export const SOCKET_BELOW = '\0';

/** The node of the server below. */
export const NODE_BELOW: BlockNode = { driver: 'nbd', server: { type: 'unix', path: SOCKET_BELOW } };

/** @throws ImageError for transports that QEMU does not have */
function checkTransport({ tls, transport, socket = '' }: NbdUri): void {
  if (!tls && (transport === 'tcp' || transport === 'unix') && !socket.startsWith('\0')) return;
  throw new ImageError(
    'qemu-nbd, which this needs, can be given nbd:// and nbd+unix:// servers only: ' +
      'mount the export by itself, and then the file as a raw image',
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
  readonly format: ImageFormat;
  readonly file: BlockNode;
  readonly readOnly: boolean;
  /** An internal snapshot. */
  readonly snapshotName?: string | undefined;
  readonly partition?: { readonly offset: bigint; readonly size: bigint } | undefined;
  /** Whether writes go to a file that qemu-nbd throws away at its end, or the qcow2 where they are kept. */
  readonly overlay?: 'temporary' | { readonly path: string } | undefined;
}

/** The tree of what is served. The header of a kept overlay says what it is over. */
function treeOf({ format, file, partition, overlay }: QemuRequest): BlockNode {
  const whole: BlockNode =
    typeof overlay === 'object'
      ? { driver: 'qcow2', file: fileNode(overlay.path, false) }
      : { driver: qemuDriver(format), file };
  if (partition === undefined) return whole;
  return { driver: 'raw', offset: String(partition.offset), size: String(partition.size), file: whole };
}

/** The words of a qemu-nbd that takes its socket by socket activation. */
export function qemuNbdWords(request: QemuRequest): readonly string[] {
  const { format, file, readOnly, snapshotName, partition, overlay } = request;
  const words = ['qemu-nbd'];
  if (readOnly || snapshotName !== undefined) words.push('--read-only');
  else words.push('--discard=unmap');
  if (overlay === 'temporary') words.push('--snapshot');
  if (snapshotName !== undefined) {
    if (partition !== undefined || overlay !== undefined)
      throw new ImageError(`the snapshot ${printable(snapshotName)} must be served by a server of its own`);
    words.push(`--load-snapshot=snapshot.name=${snapshotName.replaceAll(',', ',,')}`);
  }
  if (partition === undefined && typeof overlay === 'object') {
    return [...words, '-f', 'qcow2', plainPath(overlay.path)];
  }
  const { filename } = file;
  if (partition === undefined && typeof filename === 'string') {
    return [...words, '-f', qemuDriver(format), plainPath(filename)];
  }
  return [...words, '--image-opts', imageOptions(treeOf(request))];
}
