// Makes the server's command line for an image. Pure.
//
// qemu-nbd serves local images, since it locks them against a second user. The chunk server decodes compressed files and
// keeps the bytes of remote ones, which an nbdkit below it fetches; a qemu-nbd on top serves other formats than raw.
// Our proxy stands between two servers where one would lose the other with the first unreadable sector, and cuts off what
// QEMU has added to a size.

import type { MemberCheck } from '../chunks/contract/coding.js';
import { CHUNK_SERVER_NAME } from '../transport/chunk-program.js';
import { type Confinement, confinedWords, LAUNCHER } from '../transport/confine.js';
import { proxyWords } from '../transport/proxy.js';
import type { ImageFile } from './chain.js';
import { type Below, chunkWords, keptFiles, type Range, type SourceIdentity } from './chunks.js';
import type { Decryption } from './encryption.js';
import type { Compression, ImageFormat } from './formats.js';
import { type ChunkSettings, keepsMore } from './keep-request.js';
import { type NbdkitRequest, nbdkitServer, overNbdkit, overServer, overText, runLine } from './nbdkit.js';
import {
  type BlockNode,
  fileNode,
  imageNode,
  NODE_BELOW,
  nbdNode,
  type QemuRequest,
  qemuNbdWords,
} from './qemu.js';
import { recordedName, type Source } from './source.js';
import { conditionFor } from './web.js';

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
  /** How the file, or its range, is compressed; `deflate` only in a zip archive. */
  readonly compression: Compression | 'deflate' | undefined;
  /** The facts that a zip archive records of the image which it has compressed. */
  readonly check?: MemberCheck | undefined;
  /** The place of the image in an archive. */
  readonly range?: Range | undefined;
  /** The place of the image in an archive that is compressed as a whole, in decoded bytes. */
  readonly member?: Range | undefined;
  /** The text that changes with the source's file, such as its time or ETag; undefined: nothing is known. */
  readonly version?: string | undefined;
  /** What to keep of the bytes. */
  readonly chunks?: ChunkSettings | undefined;
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
  readonly partition: Range | undefined;
  /** A kept overlay has an absolute path. */
  readonly overlay: 'temporary' | { readonly path: string } | undefined;
}

/** The programs that a plan needs, besides those of nbdfuse. */
export type Program = 'qemu-nbd' | 'nbdkit';

/** Whether nbdfuse keeps something of the image that outlives the mount. */
const keeps = ({ chunks = {} }: Plan): boolean => keepsMore(chunks);

/** Whether the chunk server decodes the image, or keeps the bytes of a remote one. */
export function needsChunks(plan: Plan): boolean {
  const { source, compression, readOnly, overlay } = plan;
  if (compression !== undefined || source.kind === 'web') return true;
  // Writes to an SFTP server have nothing from one more server in between.
  if (source.kind === 'ssh') return readOnly || overlay !== undefined || keeps(plan);
  return source.kind === 'nbd' && keeps(plan);
}

/** Whether nbdkit must fetch or join the bytes, or find them in an archive. */
function needsNbdkit(plan: Plan): boolean {
  const { source, range } = plan;
  if (range !== undefined && !needsChunks(plan)) return true;
  return (
    source.kind === 'web' || source.kind === 'ssh' || (source.kind === 'file' && source.parts !== undefined)
  );
}

/** Whether only QEMU can interpret the bytes. */
function needsQemu(plan: Plan): boolean {
  const { source, format, overlay } = plan;
  return format !== 'raw' || overlay !== undefined || (source.kind === 'nbd' && !needsChunks(plan));
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
  return isStacked(plan) || needsNbdkit(plan) || needsChunks(plan) || plan.source.kind === 'nbd';
}

/** The programs that a plan needs; nbdkit serves a raw file where there is no qemu-nbd. */
export function programsFor(plan: Plan, hasQemuNbd: boolean): readonly Program[] {
  if (needsNbdkit(plan) || needsChunks(plan)) {
    return [
      ...(needsNbdkit(plan) ? ['nbdkit' as const] : []),
      ...(needsQemu(plan) ? ['qemu-nbd' as const] : []),
    ];
  }
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

/** The names of all programs that serve a plan, for messages. */
export function serversOf(plan: Plan, hasQemuNbd: boolean): readonly string[] {
  const programs = programsFor(plan, hasQemuNbd);
  return needsChunks(plan) || keeps(plan) ? [CHUNK_SERVER_NAME, ...programs] : programs;
}

/** The request for a qemu-nbd that serves `image`. */
function qemuRequest(plan: Plan, image: BlockNode): QemuRequest {
  const { readOnly, snapshotName, isSnapshotId, keyFile, partition, overlay } = plan;
  const kept = typeof overlay === 'object' ? { ...overlay, namesServer: isOverServer(plan) } : overlay;
  return { image, readOnly, snapshotName, isSnapshotId, keyFile, partition, overlay: kept };
}

/** A part of a range; undefined: all of it. */
function partOf(range: Range | undefined, part: Range | undefined): Range | undefined {
  if (range === undefined || part === undefined) return part ?? range;
  return { offset: range.offset + part.offset, size: part.size };
}

/** The request for an nbdkit that serves the image, or a part of it. */
function nbdkitRequest(plan: Plan, source: NbdkitRequest['source'], part: Plan['partition']): NbdkitRequest {
  const readOnly = plan.readOnly || plan.overlay !== undefined;
  return { source, range: partOf(plan.range, part), readOnly };
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
  { source, readOnly }: NbdkitRequest,
  upper: Confinement | undefined,
): readonly string[] {
  if (source.kind !== 'file') return words;
  const { readable = [], writable = [] } = upper ?? {};
  const files = source.parts ?? [source.path];
  const launcher = upper === undefined ? [] : [LAUNCHER];
  return confinedWords(words, {
    readable: [...readable, ...launcher, ...(readOnly ? files : [])],
    writable: [...writable, ...(readOnly ? [] : files)],
    temporary: upper?.temporary === true,
    sockets: upper !== undefined,
  });
}

/** An nbdkit alone. */
export function nbdkitAlone(request: NbdkitRequest, isConfined: boolean): readonly string[] {
  const words = nbdkitServer(request);
  return isConfined ? confineNbdkit(words, request, undefined) : words;
}

/** Connections to an nbdkit below that reads from a web server: its plugin answers one request at a time on each. */
const WEB_CONNECTIONS = 8;

/** Where a chunk server gets the bytes of a source. */
function belowChunks(source: Source, readOnly: boolean): Below {
  if (source.kind === 'nbd') return { kind: 'nbd', uri: source.uri };
  if (source.kind === 'file' && source.parts === undefined) return { kind: 'file', path: source.path };
  const server = { kind: 'server', argv: nbdkitServer({ source, readOnly }) } as const;
  return source.kind === 'web' ? { ...server, connections: WEB_CONNECTIONS } : server;
}

/** The image that a plan's cache belongs to. */
export function identityOf({ source, version = '' }: Pick<Plan, 'source' | 'version'>): SourceIdentity {
  const isWeak = source.kind === 'web' && version !== '' && conditionFor(version) === undefined;
  return { source: recordedName(source), version, isWeak };
}

/** The chunk server, below a qemu-nbd if the image needs one. */
function chunkServer(plan: Plan): readonly string[] {
  const {
    source,
    compression: coding = 'plain',
    check,
    range,
    member,
    partition,
    overlay,
    chunks = {},
  } = plan;
  const isBelow = needsQemu(plan);
  const upper = isBelow
    ? qemuServer(plan, imageNode(plan.format, NODE_BELOW, plan.decryption), true)
    : undefined;
  const readOnly = plan.readOnly || overlay !== undefined;
  const words = chunkWords({
    coding,
    check,
    below: belowChunks(source, readOnly),
    range,
    part: isBelow ? member : partOf(member, partition),
    identity: identityOf(plan),
    settings: chunks,
    writable: !readOnly && coding === 'plain',
    run: upper === undefined ? undefined : runLine(upper),
  });
  return plan.isConfined
    ? confineChunks(words, plan, isBelow ? allowedToQemu(plan, true) : undefined)
    : words;
}

/** Puts a chunk server into the sandbox, as confineNbdkit does. */
function confineChunks(
  words: readonly string[],
  { source, chunks = {} }: Plan,
  upper: Confinement | undefined,
): readonly string[] {
  if (source.kind !== 'file') return words;
  const { readable = [], writable = [], temporary } = upper ?? {};
  const launcher = upper === undefined ? [] : [LAUNCHER];
  return confinedWords(words, {
    readable: [...readable, ...launcher, ...(source.parts ?? [source.path])],
    writable: [...writable, ...keptFiles(chunks)],
    temporary,
    sockets: true,
    ours: true,
  });
}

/** A qemu-nbd on top of the nbdkit that fetches the image. */
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
  if (needsChunks(plan)) return chunkServer(plan);
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
  const below = wordsBelow(plan, hasQemuNbd);
  const size = sizeToKeep(plan, hasQemuNbd);
  const words = size === undefined ? below : proxyWords(below, { size });
  const { chunks = {}, readOnly } = plan;
  if (!keeps(plan) || needsChunks(plan)) return words;
  return chunkWords({
    coding: 'plain',
    below: { kind: 'server', argv: words },
    identity: identityOf(plan),
    settings: chunks,
    writable: !readOnly,
  });
}
