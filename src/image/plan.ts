// From what is to be served to the server's command line. Pure.
//
// qemu-nbd serves local images, since it locks them against a second user; nbdkit serves what is remote or
// compressed; a qemu-nbd on top of an nbdkit serves what is both an image and remote or compressed.

import type { Compression, ImageFormat } from './formats.js';
import { type NbdkitRequest, nbdkitServer, overNbdkit, overServer } from './nbdkit.js';
import { type BlockNode, fileNode, NODE_BELOW, nbdNode, type QemuRequest, qemuNbdWords } from './qemu.js';
import type { Source } from './source.js';

/** An image, and what of it is to be served and how. */
export interface Plan {
  /** A local path is absolute where a server has another folder. */
  readonly source: Source;
  /** Whether the source is a block device. */
  readonly isDevice: boolean;
  readonly compression: Compression | undefined;
  readonly format: ImageFormat;
  readonly readOnly: boolean;
  readonly snapshotName: string | undefined;
  readonly partition: { readonly offset: bigint; readonly size: bigint } | undefined;
  readonly overlay: 'temporary' | { readonly path: string } | undefined;
}

/** The programs that a plan needs. */
export type Program = 'qemu-nbd' | 'nbdkit';

/** Whether nbdkit must fetch or unpack the bytes. */
function needsNbdkit({ source, compression }: Plan): boolean {
  return compression !== undefined || source.kind === 'web' || source.kind === 'ssh';
}

/** Whether only QEMU knows what the bytes mean. */
function needsQemu({ source, format, overlay }: Plan): boolean {
  return format !== 'raw' || overlay !== undefined || source.kind === 'nbd';
}

/** Whether an internal snapshot is served by a qemu-nbd of its own, below the one of the rest. */
function isStacked({ snapshotName, partition, overlay }: Plan): boolean {
  return snapshotName !== undefined && (partition !== undefined || overlay !== undefined);
}

/** The programs that a plan needs; a raw file can do with nbdkit where there is no qemu-nbd. */
export function programsFor(plan: Plan, hasQemuNbd: boolean): readonly Program[] {
  if (needsNbdkit(plan)) return needsQemu(plan) ? ['nbdkit', 'qemu-nbd'] : ['nbdkit'];
  if (isStacked(plan)) return ['nbdkit', 'qemu-nbd'];
  return needsQemu(plan) || hasQemuNbd ? ['qemu-nbd'] : ['nbdkit'];
}

/** What a qemu-nbd serves of `file`. */
function qemuRequest(plan: Plan, file: BlockNode): QemuRequest {
  const { format, readOnly, snapshotName, partition, overlay } = plan;
  return { format, file, readOnly, snapshotName, partition, overlay };
}

/** What an nbdkit serves of the source. */
function nbdkitRequest(plan: Plan, source: NbdkitRequest['source'], range: Plan['partition']): NbdkitRequest {
  const readOnly = plan.readOnly || plan.overlay !== undefined;
  return { source, compression: plan.compression, range, readOnly };
}

/** An internal snapshot with something on top: two servers. */
function stackedServer(plan: Plan, hasQemuNbd: boolean): readonly string[] {
  const below: Plan = { ...plan, partition: undefined, overlay: undefined, readOnly: true };
  const above: Plan = { ...plan, format: 'raw', snapshotName: undefined };
  return overServer(serverWords(below, hasQemuNbd), qemuNbdWords(qemuRequest(above, NODE_BELOW)));
}

/**
 * The command line of the server, which takes its socket by socket activation.
 * @throws ImageError where a server cannot do what is wanted
 */
export function serverWords(plan: Plan, hasQemuNbd: boolean): readonly string[] {
  const { source } = plan;
  if (isStacked(plan)) return stackedServer(plan, hasQemuNbd);
  if (source.kind === 'nbd') return qemuNbdWords(qemuRequest(plan, nbdNode(source.parsed)));
  const programs = programsFor(plan, hasQemuNbd);
  if (!programs.includes('qemu-nbd')) return nbdkitServer(nbdkitRequest(plan, source, plan.partition));
  if (programs.includes('nbdkit')) {
    const upper = qemuNbdWords(qemuRequest(plan, NODE_BELOW));
    return overNbdkit(nbdkitRequest(plan, source, undefined), upper);
  }
  if (source.kind !== 'file') throw new Error('qemu-nbd alone serves files');
  return qemuNbdWords(qemuRequest(plan, fileNode(source.path, plan.isDevice)));
}
