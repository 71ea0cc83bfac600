// Prepares the server of an image.
//
// Called by the command line when the user names a file or a URL. Detects the format of the image, refuses unsafe
// images, and returns the server's command line with lines for the user.

import { access, constants, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { printable } from '../nbd/text.js';
import { findPartition } from '../partitions/partitions.js';
import type { DiskReader } from '../partitions/table.js';
import { whyUnconfined } from '../transport/confine.js';
import { codeOf, reasonOf } from '../transport/errors.js';
import { keepSecret } from '../transport/secret-file.js';
import { refuseSeveralStreams } from './bzip2.js';
import { type LocalImage, openLocalImage, realPathOf, refuseReferences } from './chain.js';
import { chooseCompression, chooseFormat } from './choice.js';
import { refuseDmg } from './dmg.js';
import { type Decryption, decryptionOf, formatWithKey, keyMissing } from './encryption.js';
import { ImageError } from './errors.js';
import { type Compression, type ImageFormat, isReadOnlyFormat, type RequestedFormat } from './formats.js';
import { lookAtGzip } from './gzip.js';
import { lockFiles } from './lock.js';
import { type Look, lookAtDisk, lookAtFile, withDisk, withFile } from './look.js';
import { archiveToOpen, type FoundMember, findMember, NAME_LENGTH, rangeOf } from './members.js';
import { pluginFor } from './nbdkit.js';
import { directoryError, refuseUnsized } from './no-image.js';
import { backingOf, checkOverlay, createOverlay, createWords } from './overlay.js';
import { refuseParallelsLayer } from './parallels.js';
import { refuseChild } from './parents.js';
import { partsOf } from './parts.js';
import { nbdkitAlone, type Plan, programsFor, serverWords } from './plan.js';
import {
  hasFilter,
  hasProgram,
  installedOf,
  requirePlugin,
  requirePrograms,
  requireUnpacking,
} from './programs.js';
import { SECTOR } from './qemu.js';
import { serverDirectory } from './server-directory.js';
import { missingText, nameOf, parseSource, type Source, shownOf, type WebSource } from './source.js';
import { truncationOf } from './truncated.js';
import { unpackingError } from './unpacking-error.js';
import { refuseExtent } from './vmdk.js';
import { lookAtWeb } from './web-look.js';

/** An image as the command line names it. */
export interface ImageRequest {
  /** A path, a URL or an NBD URI. */
  readonly name: string;
  /** The format that the user names. */
  readonly requested: RequestedFormat;
  /** Whether the image may name files in other directories, and files whose format it does not record. */
  readonly allowReferences: boolean;
  /** The name of a file in the archive. */
  readonly member: string | undefined;
  readonly snapshotName: string | undefined;
  /** Linux's number of the partition. */
  readonly partition: number | undefined;
  /** Where writes go instead of the image: into a file that is thrown away, or kept. */
  readonly overlay: 'temporary' | { readonly path: string } | undefined;
  readonly readOnly: boolean;
  /** The file with the key of an encrypted image, as typed. */
  readonly keyFile: string | undefined;
  /** Open the image without locks, read-only, while another program writes to it. */
  readonly share: boolean;
}

/** A server that is ready to be started. */
export interface PreparedImage {
  /** The words of a server that takes its socket by socket activation. */
  readonly argv: readonly string[];
  /** Lines for the user. */
  readonly lines: readonly string[];
  /** A line for `--verbose`. */
  readonly detail: string;
  /** The current directory of the server; undefined: ours. */
  readonly directory?: string | undefined;
  /** A command that must run first; `prepareImage` has run it, unless `dryRun` was set. */
  readonly before: readonly string[] | undefined;
  /** The path of a file in memory with the password, as it is in `argv`. */
  readonly passwordFile: string | undefined;
}

/** How to prepare an image. */
export interface PrepareOptions {
  /** Do not create an overlay. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** A source before its bytes are inspected. */
interface Place {
  readonly source: Source;
  readonly isDevice: boolean;
  readonly writable: boolean;
  /** The absolute path of the file with the image's key. */
  readonly keyFile?: string | undefined;
  /** Whether servers get a sandbox. */
  readonly isConfined: boolean;
}

/** @throws ImageError without nbdkit or its plugin for the source */
async function requireNbdkit(source: Exclude<Source, { kind: 'nbd' }>): Promise<void> {
  await requirePrograms(shownOf(source), ['nbdkit']);
  await requirePlugin(shownOf(source), pluginFor(source));
}

/** The source with what nbdkit needs. @throws ImageError without nbdkit or its plugin */
async function webSource(source: WebSource): Promise<WebSource> {
  await requireNbdkit(source);
  const { password } = source;
  const passwordFile = password === undefined ? undefined : keepSecret(password);
  return { ...source, passwordFile, canRetry: await hasFilter('retry-request') };
}

/** @throws ImageError when a path does not name an image */
async function placeOf(name: string): Promise<Omit<Place, 'isConfined'>> {
  const source = parseSource(name);
  if (source.kind === 'web') return { source: await webSource(source), isDevice: false, writable: false };
  if (source.kind !== 'file') return { source, isDevice: false, writable: true };
  const { path } = source;
  const shown = printable(path);
  const found = await stat(path).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw new ImageError(`cannot open ${shown}: ${reasonOf(error)}`);
    throw new ImageError(missingText(path));
  });
  if (found.isDirectory()) throw await directoryError(path);
  if (found.isSocket()) throw new ImageError(`${shown} is a socket: nbdfuse MOUNTPOINT --unix ${shown}`);
  if (!found.isFile() && !found.isBlockDevice())
    throw new ImageError(
      `${shown} is neither a file nor a block device: name one, or copy the bytes into a file first`,
    );
  if (found.isFile() && found.size === 0) await refuseUnsized(path);
  const writable = await access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
  return { source, isDevice: found.isBlockDevice(), writable };
}

/** The place with all parts of its file. @throws ImageError when parts are missing or do not fit together */
async function withParts<T extends Omit<Place, 'isConfined'>>(
  place: T,
  { format }: RequestedFormat,
): Promise<T> {
  const { source, isDevice } = place;
  if (source.kind !== 'file' || isDevice || format === 'raw') return place;
  const parts = await partsOf(source.path);
  if (parts === undefined) return place;
  const joined = { ...source, parts };
  await requireNbdkit(joined);
  return { ...place, source: joined };
}

/** The first and last bytes of the source, compressed or not; and the source with a condition for later requests. */
async function lookAtSource(
  place: Place,
  signal: AbortSignal | undefined,
): Promise<{ readonly source: Source; readonly outside: Look }> {
  const { source, isConfined } = place;
  if (source.kind !== 'web') return { source, outside: await lookAtBytes(source, isConfined, signal) };
  const { look, condition } = await lookAtWeb(source, signal);
  return { source: { ...source, condition }, outside: look };
}

async function lookAtBytes(
  source: Exclude<Source, WebSource>,
  isConfined: boolean,
  signal: AbortSignal | undefined,
): Promise<Look> {
  if (source.kind === 'nbd') return withDisk(source.uri, signal, lookAtDisk);
  if (source.kind !== 'file' || source.parts !== undefined) {
    const socketActivation = nbdkitAlone({ source, readOnly: true }, isConfined);
    return withDisk({ socketActivation }, signal, lookAtDisk);
  }
  try {
    return await lookAtFile(source.path);
  } catch (error) {
    throw new ImageError(`cannot read ${printable(source.path)}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Lets `use` read the whole source, compressed or not. */
function withSource<T>(
  { source, isDevice, isConfined }: Place,
  signal: AbortSignal | undefined,
  use: (file: DiskReader) => Promise<T>,
): Promise<T> {
  if (source.kind === 'nbd') return withDisk(source.uri, signal, use);
  if (source.kind === 'file' && source.parts === undefined && !isDevice) return withFile(source.path, use);
  return withDisk({ socketActivation: nbdkitAlone({ source, readOnly: true }, isConfined) }, signal, use);
}

/** The first and last bytes of the image in a compressed file. */
async function lookInside(
  place: Place,
  compression: Compression | undefined,
  outside: Look,
  signal: AbortSignal | undefined,
): Promise<Look> {
  const { source, isConfined } = place;
  if (compression === undefined || source.kind === 'nbd') return outside;
  const name = shownOf(source);
  await requirePrograms(name, ['nbdkit']);
  await requireUnpacking(name, compression);
  if (compression === 'gzip') return withSource(place, signal, (file) => lookAtGzip(name, file));
  if (compression === 'bzip2') await withSource(place, signal, (file) => refuseSeveralStreams(name, file));
  const socketActivation = nbdkitAlone({ source, compression, readOnly: true }, isConfined);
  return withDisk({ socketActivation }, signal, lookAtDisk).catch((error: unknown) => {
    throw unpackingError(name, compression, error);
  });
}

/** The properties of an image, found by inspection. */
interface Identity {
  readonly source: Source;
  readonly compression: Compression | undefined;
  readonly format: ImageFormat;
  /** The size of a raw disk that is no multiple of a sector, in bytes. */
  readonly oddSize: bigint | undefined;
  /** The image in an archive. */
  readonly member: FoundMember | undefined;
  /** How to open a local image that is not compressed. */
  readonly local: LocalImage | undefined;
  /** Lines for the user. */
  readonly lines: readonly string[];
  /** How an encrypted image without `local` is decrypted. */
  readonly decryption: Decryption | undefined;
  /** Whether an NBD server refuses writes, or the image is in an archive or in parts. */
  readonly readOnly: boolean;
}

/** The disk in an archive; undefined when the file itself is the disk. */
async function memberOf(
  place: Place,
  { requested, member }: ImageRequest,
  inside: Look & { readonly compression: Compression | undefined },
  signal: AbortSignal | undefined,
): Promise<FoundMember | undefined> {
  const shown = shownOf(place.source);
  if (place.source.kind === 'nbd') {
    if (member === undefined) return undefined;
    throw new ImageError(`--member: ${shown} is an NBD server, and no archive`);
  }
  const kind = archiveToOpen({ ...inside, name: nameOf(place.source) }, requested, member);
  if (kind === undefined) return undefined;
  await requirePrograms(shown, ['nbdkit']);
  return withSource(place, signal, (file) => findMember(shown, kind, file, member));
}

async function identify(
  place: Place,
  request: ImageRequest,
  signal: AbortSignal | undefined,
): Promise<Identity> {
  const { requested } = request;
  const { isDevice } = place;
  const name = nameOf(place.source);
  if (place.source.kind === 'ssh') await requireNbdkit(place.source);
  const { source, outside } = await lookAtSource(place, signal);
  const compression =
    source.kind === 'nbd' ? undefined : chooseCompression({ name, head: outside.head }, requested);
  const inside = await lookInside({ ...place, source }, compression, outside, signal);
  const member = await memberOf({ ...place, source }, request, { ...inside, compression }, signal);
  const { head, tail, size, lines = [] } = member?.look ?? inside;
  const called = member === undefined ? name : basename(member.name);
  const chosen = chooseFormat({ name: called === '' ? 'the export' : called, head, tail }, requested);
  const hasKey = request.keyFile !== undefined;
  const format = hasKey ? formatWithKey(shownOf(source), chosen, head) : chosen;
  if (format === 'dmg') refuseDmg(shownOf(source), tail);
  if (format === 'vmdk') refuseExtent(called, head);
  // A compressed VHDX is not read for this: QEMU refuses it.
  const read = (use: (file: DiskReader) => Promise<string | undefined>) =>
    compression !== undefined
      ? Promise.resolve(undefined)
      : withSource({ ...place, source }, signal, (file) => use(member ? rangeOf(file, member.range) : file));
  await refuseChild(shownOf(source), format, { head, tail }, read);
  const oddSize = format === 'raw' && size % SECTOR !== 0n ? size : undefined;
  const found = { source, compression, format, oddSize, member };
  const isPart = member !== undefined || (source.kind === 'file' && source.parts !== undefined);
  if (source.kind === 'file' && compression === undefined && !isPart) {
    if (format === 'parallels') await refuseParallelsLayer(source.path);
    const trusted = request.allowReferences;
    const local = await openLocalImage(source.path, format, { trusted, isDevice, hasKey });
    const short = isDevice ? undefined : await truncationOf(shownOf(source), format, head, read);
    const all = short === undefined ? local.lines : [...local.lines, short];
    return { ...found, local, lines: all, decryption: undefined, readOnly: false };
  }
  refuseReferences(shownOf(source), format, head);
  const decryption = decryptionOf(format, head);
  if (decryption !== undefined && !hasKey) throw keyMissing(shownOf(source));
  const readOnly = isPart || (source.kind === 'nbd' && outside.readOnly === true);
  return { ...found, local: undefined, lines, decryption, readOnly };
}

/** Finds the partition in the disk that `plan` serves as a whole. */
async function locate(plan: Plan, number: number, hasQemuNbd: boolean, signal: AbortSignal | undefined) {
  const socketActivation = serverWords(plan, hasQemuNbd);
  return withDisk({ socketActivation }, signal, (disk) => findPartition(disk, number));
}

/**
 * The plan with the snapshot that has the given name or, if none has, the given ID.
 * @throws ImageError when there is none; TransportError
 */
async function withSnapshot(plan: Plan, hasQemuNbd: boolean, signal: AbortSignal | undefined): Promise<Plan> {
  for (const isSnapshotId of [false, true]) {
    const found = { ...plan, isSnapshotId };
    try {
      await withDisk({ socketActivation: serverWords(found, hasQemuNbd) }, signal, async () => undefined);
      return found;
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('Failed to load snapshot'))) throw error;
    }
  }
  const image = shownOf(plan.source);
  throw new ImageError(
    `${image} has no snapshot ${printable(plan.snapshotName ?? '')}: qemu-img snapshot -l ${image} lists its snapshots`,
  );
}

/** Checks a kept overlay, or returns the command that creates it. */
async function overlayFor(plan: Plan, path: string, hasQemuNbd: boolean, signal: AbortSignal | undefined) {
  const backing = await backingOf(plan);
  if (await isThere(path)) {
    await checkOverlay(path, backing);
    return undefined;
  }
  await requirePrograms('--overlay', ['qemu-img']);
  const socketActivation = serverWords({ ...plan, readOnly: true }, hasQemuNbd);
  const size = await withDisk({ socketActivation }, signal, async (disk) => disk.size);
  return createWords(path, backing, size);
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** The absolute path of the file with a key. @throws ImageError when it cannot be read */
async function keyPath(path: string): Promise<string> {
  try {
    const real = await realPathOf(path);
    await access(real, constants.R_OK);
    if ((await stat(real)).isFile()) return real;
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError(`cannot read the key file ${printable(path)}: ${reasonOf(error)}`, { cause: error });
  }
  throw new ImageError(
    `the key file ${printable(path)} is not a regular file, which QEMU can read several times`,
  );
}

/** The absolute path of an existing or new overlay. @throws ImageError when its directory does not exist */
async function overlayPath(path: string): Promise<string> {
  try {
    return (await isThere(path))
      ? await realPathOf(path)
      : join(await realPathOf(dirname(path)), basename(path));
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError(`cannot create the overlay ${printable(path)}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** `image.qcow2 is qcow2; serving it with qemu-nbd`. */
function introduction({ source, member }: Identity, plan: Plan, programs: readonly string[]): string {
  const packed = plan.compression === undefined ? '' : `, compressed with ${plan.compression}`;
  const what = plan.isDevice ? 'a block device' : plan.format;
  const inside = member === undefined ? '' : `${printable(member.name, NAME_LENGTH)} in `;
  const parts = source.kind === 'file' ? (source.parts?.length ?? 1) : 1;
  const divided = parts === 1 ? '' : ` in ${parts} parts`;
  return `${inside}${shownOf(source)} is ${what}${packed}${divided}; serving it with ${programs.join(' and ')}`;
}

/** A source whose paths do not depend on the current directory, in which its server then need not stay. */
function absolute(source: Source): Source {
  if (source.kind !== 'file') return source;
  // Not resolve(): only the system knows where `..` leads after a link.
  const whole = (path: string): string => (isAbsolute(path) ? path : `${process.cwd()}/${path}`);
  return { ...source, path: whole(source.path), parts: source.parts?.map(whole) };
}

/** The image as a whole, without the overlay. */
function wholeOf(place: Place, identity: Identity, request: ImageRequest): Plan {
  const { source, compression, format, local, readOnly } = identity;
  const { snapshotName, overlay } = request;
  const isReadOnly = readOnly || isReadOnlyFormat(format) || compression !== undefined;
  const canWrite = place.writable && !isReadOnly && snapshotName === undefined;
  return {
    source: absolute(source),
    tree: local,
    isConfined: place.isConfined,
    isDevice: place.isDevice,
    compression,
    format,
    oddSize: identity.oddSize,
    range: identity.member?.range,
    readOnly: request.readOnly || request.share || (overlay === undefined && !canWrite),
    snapshotName,
    isShared: request.share,
    keyFile: place.keyFile,
    decryption: identity.decryption,
    partition: undefined,
    overlay: undefined,
  };
}

/** Warnings for the user. */
function warnings(place: Place, request: ImageRequest): readonly string[] {
  const { source, writable } = place;
  if (
    source.kind !== 'file' ||
    writable ||
    request.readOnly ||
    request.share ||
    request.overlay !== undefined
  )
    return [];
  return [`${printable(source.path)} is not writable: the mounted file is read-only`];
}

/**
 * Detects the format of an image, and chooses how to serve it.
 * @throws ImageError; TransportError, NbdServerError, NbdProtocolError if the image is on a server that fails
 */
export async function prepareImage(
  request: ImageRequest,
  options: PrepareOptions = {},
): Promise<PreparedImage> {
  const { name, snapshotName, partition, overlay } = request;
  const { dryRun = false, signal } = options;
  const [why, found] = await Promise.all([
    installedOf(['qemu-nbd', 'nbdkit']).then(whyUnconfined),
    placeOf(name).then((whole) => withParts(whole, request.requested)),
  ]);
  const keyFile = request.keyFile === undefined ? undefined : await keyPath(request.keyFile);
  const place = { ...found, keyFile, isConfined: why === undefined };
  const identity = await identify(place, request, signal);
  if (snapshotName !== undefined && identity.format !== 'qcow2') {
    throw new ImageError(
      `--snapshot-name: ${shownOf(identity.source)} is ${identity.format}; only qcow2 has snapshots`,
    );
  }
  const unchecked = wholeOf(place, identity, request);
  const hasQemuNbd = await hasProgram('qemu-nbd');
  const anyRange = partition === undefined ? undefined : { offset: 0n, size: 0n };
  const programs = programsFor({ ...unchecked, overlay, partition: anyRange }, hasQemuNbd);
  await requirePrograms(shownOf(place.source), programs);
  if (identity.local?.descriptor !== undefined) await requirePlugin(shownOf(place.source), 'data');
  const whole = snapshotName === undefined ? unchecked : await withSnapshot(unchecked, hasQemuNbd, signal);
  const kept = typeof overlay === 'object' ? { path: await overlayPath(overlay.path) } : undefined;
  const before = kept && (await overlayFor(whole, kept.path, hasQemuNbd, signal));
  if (before !== undefined && !dryRun) await createOverlay(before);
  // As it will be served: opening may repair the image, as QEMU replays the log of a VHDX. A new overlay has the
  // partitions of the image; an existing one may have others.
  const isNew = before !== undefined;
  const readOnly = whole.readOnly || isNew || dryRun;
  const seen = { ...whole, overlay: isNew ? undefined : (kept ?? overlay), readOnly };
  const located = partition === undefined ? undefined : await locate(seen, partition, hasQemuNbd, signal);
  const plan: Plan = { ...whole, overlay: kept ?? overlay, partition: located?.partition };
  if (!dryRun) lockFiles(plan, programs);
  const lines = [
    introduction(identity, plan, programs),
    ...identity.lines,
    ...warnings(place, request),
    ...(located?.warning === undefined ? [] : [located.warning]),
  ];
  const detail =
    why === undefined
      ? 'the image server runs in a sandbox'
      : `the image server runs without a sandbox: ${why}`;
  const passwordFile = whole.source.kind === 'web' ? whole.source.passwordFile : undefined;
  const argv = serverWords(plan, hasQemuNbd);
  return { argv, lines, detail, before, passwordFile, directory: serverDirectory(argv) };
}
