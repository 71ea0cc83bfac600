// Prepares the server of an image.
//
// Called by the command line when the user names a file or a URL. Detects the format of the image, refuses unsafe
// images, and returns the server's command line with lines for the user.

import { access, constants, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import type { FileLocks } from '../linux/file-lock.js';
import { printable } from '../nbd/text.js';
import { findPartition } from '../partitions/partitions.js';
import type { DiskReader } from '../partitions/table.js';
import { whyUnconfined } from '../transport/confine.js';
import { codeOf, reasonOf } from '../transport/errors.js';
import { keepSecret } from '../transport/secret-file.js';
import type { NbdServer } from '../transport/server.js';
import { StartedServer } from '../transport/started-server.js';
import { type LocalImage, openLocalImage, realPathOf, refuseReferences } from './chain.js';
import { chooseCompression, chooseFormat } from './choice.js';
import type { Range } from './chunks.js';
import { refuseCoding, refuseDmg, unknownCoding } from './dmg.js';
import { type Decryption, decryptionOf, formatWithKey, keyMissing } from './encryption.js';
import { ImageError } from './errors.js';
import { type Compression, type ImageFormat, isReadOnlyFormat, type RequestedFormat } from './formats.js';
import { cacheName, createKept, keptIn } from './keep.js';
import { type ChunkSettings, type KeepRequest, wantsKept } from './keep-request.js';
import { lockFiles } from './lock.js';
import {
  type Look,
  lookAtDisk,
  lookAtFile,
  lookAtUnpacked,
  withDisk,
  withFile,
  withStarted,
} from './look.js';
import { Made } from './made.js';
import {
  archiveOfName,
  archiveToOpen,
  type FoundMember,
  findMember,
  NAME_LENGTH,
  rangeOf,
} from './members.js';
import { pluginFor } from './nbdkit.js';
import { directoryError, refuseUnsized } from './no-image.js';
import { backingOf, checkOverlay, createOverlay, createWords, removeOverlay } from './overlay.js';
import { refuseParallelsLayer } from './parallels.js';
import { refuseChild } from './parents.js';
import { partsOf } from './parts.js';
import { nbdkitAlone, needsChunks, type Plan, programsFor, serversOf, serverWords } from './plan.js';
import {
  hasFilter,
  hasProgram,
  installedOf,
  type NbdkitConfig,
  requirePlugin,
  requirePrograms,
} from './programs.js';
import { SECTOR } from './qemu.js';
import { remembered } from './remembered.js';
import { serverDirectory } from './server-directory.js';
import {
  missingText,
  nameOf,
  parseSource,
  recordedName,
  type Source,
  shownOf,
  type WebSource,
} from './source.js';
import { truncationOf } from './truncated.js';
import { unpackingError } from './unpacking-error.js';
import { refuseExtent } from './vmdk.js';
import { lookAtWeb, UnreachableError } from './web-look.js';

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
  /** What to keep of the bytes of the image. */
  readonly keep: KeepRequest;
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
  /** The locks on the files that the server writes to; undefined after a dry run. */
  readonly locks?: FileLocks | undefined;
  /** A server with these words that runs already. */
  readonly started?: StartedServer | undefined;
  /** Removes the files that the preparation has made, once their servers have ended: nobody has come to use the image. */
  readonly undo: () => Promise<void>;
}

type Prepared = Omit<PreparedImage, 'undo'>;

/** How to prepare an image. */
export interface PrepareOptions {
  /** Do not create an overlay. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Shows the progress of a server that may need minutes to open an image; the result ends that. */
  readonly watch?: ((server: NbdServer) => () => void) | undefined;
}

/** A source before its bytes are inspected. */
interface Place {
  readonly source: Source;
  readonly isDevice: boolean;
  readonly writable: boolean;
  /** See Plan. */
  readonly version: string;
  /** The absolute path of the file with the image's key. */
  readonly keyFile?: string | undefined;
  /** Whether servers get a sandbox. */
  readonly isConfined: boolean;
  /** What to keep of the bytes; for the inspection, unless it sees other bytes than the mount. */
  readonly chunks: ChunkSettings;
}

/** A source before the sandbox and the cache are known. */
type BarePlace = Omit<Place, 'isConfined' | 'chunks'>;

/** Nothing is known of a file. */
const NOTHING: Look = { head: Buffer.alloc(0), tail: Buffer.alloc(0), size: 0n };

/** @throws ImageError without nbdkit or its plugin for the source */
async function requireNbdkit(source: Exclude<Source, { kind: 'nbd' }>): Promise<NbdkitConfig> {
  await requirePrograms(shownOf(source), ['nbdkit']);
  return requirePlugin(shownOf(source), pluginFor(source));
}

/** The source with what nbdkit needs. @throws ImageError without nbdkit or its plugin */
async function webSource(source: WebSource): Promise<WebSource> {
  const canRetry = await hasFilter(await requireNbdkit(source), 'retry-request');
  const { password } = source;
  const passwordFile = password === undefined ? undefined : keepSecret(password);
  return { ...source, passwordFile, canRetry };
}

/** @throws ImageError when a path does not name an image */
async function placeOf(name: string): Promise<BarePlace> {
  const source = parseSource(name);
  const remote = { isDevice: false, version: '' };
  if (source.kind === 'web') return { ...remote, source: await webSource(source), writable: false };
  if (source.kind !== 'file') return { ...remote, source, writable: true };
  const { path } = source;
  const shown = printable(path);
  const found = await stat(path, { bigint: true }).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw new ImageError(`cannot open ${shown}: ${reasonOf(error)}`);
    throw new ImageError(missingText(path));
  });
  if (found.isDirectory()) throw await directoryError(path);
  if (found.isSocket()) throw new ImageError(`${shown} is a socket: nbdfuse MOUNTPOINT --unix ${shown}`);
  if (!found.isFile() && !found.isBlockDevice())
    throw new ImageError(
      `${shown} is neither a file nor a block device: name one, or copy the bytes into a file first`,
    );
  if (found.isFile() && found.size === 0n) await refuseUnsized(path);
  const writable = await access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
  return { source, isDevice: found.isBlockDevice(), writable, version: versionOf(found) };
}

/** The text that changes with a file. */
function versionOf({ mtimeNs, ino, size }: { mtimeNs: bigint; ino: bigint; size: bigint }): string {
  return `${mtimeNs}-${ino}-${size}`;
}

/** The place with all parts of its file. @throws ImageError when parts are missing or do not fit together */
async function withParts(place: BarePlace, { format }: RequestedFormat): Promise<BarePlace> {
  const { source, isDevice } = place;
  if (source.kind !== 'file' || isDevice || format === 'raw') return place;
  const parts = await partsOf(source.path);
  if (parts === undefined) return place;
  const joined = { ...source, parts };
  await requireNbdkit(joined);
  const found = await Promise.all(parts.map((path) => stat(path, { bigint: true })));
  return { ...place, source: joined, version: found.map(versionOf).join(' ') };
}

/** A file as it is, compressed or not. */
interface Outside {
  /** With what the server says of the file. */
  readonly place: Place;
  readonly look: Look;
  readonly compression: Compression | undefined;
  /** Lines for the user. */
  readonly lines?: readonly string[];
}

async function lookAtSource(
  place: Place,
  request: ImageRequest,
  signal: AbortSignal | undefined,
): Promise<Outside> {
  const { source, isConfined } = place;
  const name = nameOf(source);
  if (source.kind === 'web') return lookAtPage({ ...place, source }, request, signal);
  if (source.kind === 'nbd' && request.requested.compression !== undefined)
    throw new ImageError(
      '--format: nbdfuse does not decompress the export of an NBD server: let the server do it ' +
        '(nbdkit has filters for xz and gzip), or unpack the file first',
    );
  const look = await lookAtBytes(source, isConfined, signal);
  const compression =
    source.kind === 'nbd'
      ? undefined
      : chooseCompression({ ...look, name }, request.requested, request.member !== undefined);
  return { place, look, compression };
}

/** Looks at a file on a web server; without a network, at what the cache remembers of it. */
async function lookAtPage(
  place: Place & { readonly source: WebSource },
  { requested, member }: ImageRequest,
  signal: AbortSignal | undefined,
): Promise<Outside> {
  const { source } = place;
  try {
    const { look, condition, version } = await lookAtWeb(source, signal);
    const evidence = { ...look, name: nameOf(source) };
    const compression = chooseCompression(evidence, requested, member !== undefined);
    return { place: { ...place, source: { ...source, condition }, version }, look, compression };
  } catch (error) {
    const found = error instanceof UnreachableError ? await remembered(source, place.chunks) : undefined;
    if (found === undefined) throw error;
    const { version, condition, compression } = found;
    const line = `cannot reach ${shownOf(source)}: showing what ${printable(place.chunks.cacheFile ?? '')} has of it`;
    // The chunk server tries it at once, and later again and again.
    const away = { ...source, condition, canRetry: false };
    return { place: { ...place, source: away, version }, look: NOTHING, compression, lines: [line] };
  }
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

/** How the file, or a range of it, is compressed. */
interface Packing {
  readonly compression: Plan['compression'];
  readonly check?: Plan['check'];
  readonly range: Range | undefined;
}

/** A plan for a compressed file as a raw disk. */
function unpackedPlan({ source, isConfined, version, chunks }: Place, packing: Packing): Plan {
  return {
    ...packing,
    source: absolute(source),
    isConfined,
    isDevice: false,
    version,
    chunks,
    format: 'raw',
    readOnly: true,
    snapshotName: undefined,
    partition: undefined,
    overlay: undefined,
  };
}

/** Lets `use` read the image in a file by the chunk server, which goes on afterwards. */
async function withUnpacked<T>(
  place: Place,
  packing: Packing,
  { signal, watch }: PrepareOptions,
  use: (disk: DiskReader & { readonly readOnly: boolean }) => Promise<T>,
): Promise<{ readonly found: T; readonly started: StartedServer }> {
  const argv = serverWords(unpackedPlan(place, packing), false);
  const started = await StartedServer.start(argv, serverDirectory(argv));
  const stopWatching = watch?.(started.server);
  try {
    return { found: await withStarted(started, signal, use), started };
  } catch (error) {
    const { compression } = packing;
    if (compression === undefined) throw error;
    const source = recordedName(absolute(place.source));
    throw unpackingError({ name: shownOf(place.source), source, compression }, error);
  } finally {
    stopWatching?.();
  }
}

/** The properties of an image, found by inspection. */
interface Identity {
  readonly place: Place;
  readonly compression: Plan['compression'];
  readonly format: ImageFormat;
  /** The size of a raw disk that is no multiple of a sector, in bytes. */
  readonly oddSize: bigint | undefined;
  /** The image in an archive. */
  readonly member: FoundMember | undefined;
  /** The server that was started for the inspection. */
  readonly started: StartedServer | undefined;
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
  { source }: Place,
  { requested, member: wanted }: ImageRequest,
  { look, isCompressed }: { readonly look: Look; readonly isCompressed: boolean },
  read: <T>(use: (file: DiskReader) => Promise<T>) => Promise<T>,
): Promise<FoundMember | undefined> {
  const shown = shownOf(source);
  if (source.kind === 'nbd') {
    if (wanted === undefined) return undefined;
    throw new ImageError(`--member: ${shown} is an NBD server, and no archive`);
  }
  const kind = archiveToOpen({ ...look, name: nameOf(source) }, requested, wanted);
  if (kind === undefined) return undefined;
  return read((file) => findMember({ shown, kind, isCompressed, requested, wanted }, file));
}

/** A file, or the one in an archive, without its compression. */
interface Inside {
  /** The first and last bytes of the image. */
  readonly look: Look;
  readonly compression: Plan['compression'];
  readonly member: FoundMember | undefined;
  readonly started: StartedServer | undefined;
}

/** Opens a file that is compressed as a whole; it may be an archive. */
async function lookInside(
  place: Place,
  compression: Compression,
  request: ImageRequest,
  options: PrepareOptions,
): Promise<Inside> {
  const packing = { compression, range: undefined };
  const { found, started } = await withUnpacked(place, packing, options, async (disk) => {
    const look = await lookAtUnpacked(disk);
    const member = await memberOf(place, request, { look, isCompressed: true }, (use) => use(disk));
    return { look: member?.look ?? look, member };
  });
  return { ...found, compression, started };
}

/** Opens a file that is not compressed; it may be an archive, with files that are. */
async function lookAt(
  place: Place,
  outside: Look,
  request: ImageRequest,
  options: PrepareOptions,
): Promise<Inside> {
  const read = <T>(use: (file: DiskReader) => Promise<T>) => withSource(place, options.signal, use);
  const member = await memberOf(place, request, { look: outside, isCompressed: false }, read);
  const compression = member?.coding;
  if (member === undefined && place.source.kind === 'web' && place.chunks.cacheFile !== undefined) {
    // The cache gets the parts that show the format: the next mount may be without a network.
    const packing = { compression: undefined, range: undefined };
    const { found: look, started } = await withUnpacked(place, packing, options, lookAtUnpacked);
    return { look, compression: undefined, member, started };
  }
  if (member === undefined || compression === undefined)
    return { look: member?.look ?? outside, compression: undefined, member, started: undefined };
  const packing = { compression, check: member.check, range: member.range };
  const { found: look, started } = await withUnpacked(place, packing, options, lookAtUnpacked);
  return { look, compression, member, started };
}

async function identify(given: Place, request: ImageRequest, options: PrepareOptions): Promise<Identity> {
  if (given.source.kind === 'ssh') await requireNbdkit(given.source);
  const outside = await lookAtSource(given, request, options.signal);
  const { place, look, compression } = outside;
  const inside =
    compression === undefined
      ? await lookAt(place, look, request, options)
      : await lookInside(place, compression, request, options);
  try {
    return await identifyInside(outside, inside, request, options.signal);
  } catch (error) {
    await inside.started?.close();
    throw error;
  }
}

async function identifyInside(
  outside: Outside,
  inside: Inside,
  request: ImageRequest,
  signal: AbortSignal | undefined,
): Promise<Identity> {
  const { place } = outside;
  const { source, isDevice } = place;
  const { look, compression, member, started } = inside;
  const { head, tail, size } = look;
  const name = member === undefined ? nameOf(source) : basename(member.name);
  const isMember = member !== undefined;
  const evidence = { name: name === '' ? 'the export' : name, head, tail, isMember };
  const chosen = chooseFormat(evidence, request.requested);
  const hasKey = request.keyFile !== undefined;
  const format = hasKey ? formatWithKey(shownOf(source), chosen, head) : chosen;
  if (format === 'dmg') refuseDmg(shownOf(source), tail);
  if (format === 'vmdk') refuseExtent(name, head);
  // A compressed VHDX is not read for this: QEMU refuses it.
  const read = (use: (file: DiskReader) => Promise<string | undefined>) =>
    compression !== undefined
      ? Promise.resolve(undefined)
      : withSource(place, signal, (file) => use(member ? rangeOf(file, member.range) : file));
  if (format === 'dmg') refuseCoding(shownOf(source), await read((file) => unknownCoding(file, tail)));
  await refuseChild(shownOf(source), format, { head, tail }, read);
  const oddSize = format === 'raw' && size % SECTOR !== 0n ? size : undefined;
  const found = { place, compression, format, oddSize, member, started };
  const isPart = isMember || (source.kind === 'file' && source.parts !== undefined);
  if (source.kind === 'file' && compression === undefined && !isPart) {
    if (format === 'parallels') await refuseParallelsLayer(source.path);
    const trusted = request.allowReferences;
    const local = await openLocalImage(source.path, format, { trusted, isDevice, hasKey });
    return { ...found, local, lines: local.lines, decryption: undefined, readOnly: false };
  }
  refuseReferences(shownOf(source), format, head);
  const decryption = decryptionOf(format, head);
  if (decryption !== undefined && !hasKey) throw keyMissing(shownOf(source));
  const readOnly = isPart || (source.kind === 'nbd' && outside.look.readOnly === true);
  const isWhole = source.kind === 'web' && compression === undefined && !isMember;
  const short = isWhole ? outside.look.short : await truncationInside({ ...inside, place, format }, signal);
  const lines = [...(outside.lines ?? []), ...(short === undefined ? [] : [short])];
  return { ...found, local: undefined, lines, decryption, readOnly };
}

/** A line about a local image in an archive, in parts or compressed that is cut short. */
async function truncationInside(
  { place, format, look, compression, member, started }: Inside & Pick<Identity, 'place' | 'format'>,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (place.source.kind !== 'file' || format === 'raw') return undefined;
  const name = member === undefined ? shownOf(place.source) : printable(member.name, NAME_LENGTH);
  const find = (file: DiskReader): Promise<string | undefined> => truncationOf(name, format, look.head, file);
  if (compression === undefined)
    return withSource(place, signal, (file) => find(member ? rangeOf(file, member.range) : file));
  // A file that the archive has compressed is what the server has.
  const isInCoded = member !== undefined && member.coding === undefined;
  if (started === undefined) return undefined;
  return withStarted(started, signal, (disk) => find(isInCoded ? rangeOf(disk, member.range) : disk));
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

/** `a, b and c`. */
function listed(names: readonly string[]): string {
  return [names.slice(0, -1).join(', '), ...names.slice(-1)].filter((part) => part !== '').join(' and ');
}

/** `image.qcow2 is qcow2; serving it with qemu-nbd`. */
function introduction({ place, member }: Identity, plan: Plan, programs: readonly string[]): string {
  const { source } = place;
  const { compression } = plan;
  const coded =
    compression === 'android-sparse' ? ', as an Android sparse image' : `, compressed with ${compression}`;
  const packed = compression === undefined ? '' : coded;
  const what = plan.isDevice ? 'a block device' : plan.format;
  const inside = member === undefined ? '' : `${printable(member.name, NAME_LENGTH)} in `;
  const parts = source.kind === 'file' ? (source.parts?.length ?? 1) : 1;
  const divided = parts === 1 ? '' : ` in ${parts} parts`;
  return `${inside}${shownOf(source)} is ${what}${packed}${divided}; serving it with ${listed(programs)}`;
}

/** A source whose paths do not depend on the current directory, in which its server then need not stay. */
function absolute(source: Source): Source {
  if (source.kind !== 'file') return source;
  // Not resolve(): only the system knows where `..` leads after a link.
  const whole = (path: string): string => (isAbsolute(path) ? path : `${process.cwd()}/${path}`);
  return { ...source, path: whole(source.path), parts: source.parts?.map(whole) };
}

/** The image as a whole, without the overlay. */
function wholeOf(identity: Identity, request: ImageRequest): Plan {
  const { place, compression, format, local, readOnly, member } = identity;
  const { snapshotName, overlay } = request;
  const isReadOnly = readOnly || isReadOnlyFormat(format) || compression !== undefined;
  const canWrite = place.writable && !isReadOnly && snapshotName === undefined;
  // A member that has no coding of its own is in an archive that is compressed as a whole.
  const isInCoded = compression !== undefined && member?.coding === undefined;
  return {
    source: absolute(place.source),
    version: place.version,
    tree: local,
    isConfined: place.isConfined,
    isDevice: place.isDevice,
    compression,
    check: member?.check,
    format,
    oddSize: identity.oddSize,
    range: isInCoded ? undefined : member?.range,
    member: isInCoded ? member?.range : undefined,
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

/** What to keep of an image. @throws ImageError where that does not work */
function settingsFor(source: Source, request: ImageRequest): ChunkSettings {
  const { keep, member, partition } = request;
  const parts = [recordedName(absolute(source)), member, partition?.toString()];
  return keptIn(keep, cacheName(nameOf(source), parts));
}

/** The settings for a server that inspects the whole file. */
function settingsToInspect(source: Source, request: ImageRequest, settings: ChunkSettings): ChunkSettings {
  const isWhole = request.partition === undefined && request.member === undefined;
  if (isWhole && archiveOfName(nameOf(source)) === undefined) return settings;
  // The mount decodes another range: the cache holds its bytes.
  return { cacheMemory: settings.cacheMemory };
}

/** @throws ImageError when the bytes of an image cannot be kept below its overlay */
function refuseKeeping(plan: Plan): void {
  const { source, overlay } = plan;
  if (overlay === undefined) return;
  const isLocal = source.kind === 'file' && !needsChunks(plan);
  if (!isLocal && !(source.kind === 'nbd' && typeof overlay === 'object')) return;
  throw new ImageError(
    `${shownOf(source)}: --overlay cannot be used with --cache-file, --cache-dir, --prefetch or --trace here: ` +
      'they would keep the bytes of the overlay as those of the image',
  );
}

/** An image whose format is known. */
interface Chosen {
  readonly identity: Identity;
  readonly request: ImageRequest;
  readonly settings: ChunkSettings;
  readonly options: PrepareOptions;
  readonly made: Made;
}

/** The plan of an image, and its known properties. */
interface Settled {
  readonly plan: Plan;
  readonly hasQemuNbd: boolean;
  readonly before: readonly string[] | undefined;
  /** Lines for the user. */
  readonly lines: readonly string[];
}

async function settle({ identity, request, settings, options, made }: Chosen): Promise<Settled> {
  const { snapshotName, partition, overlay } = request;
  const { dryRun = false, signal } = options;
  const shown = shownOf(identity.place.source);
  if (snapshotName !== undefined && identity.format !== 'qcow2')
    throw new ImageError(`--snapshot-name: ${shown} is ${identity.format}; only qcow2 has snapshots`);
  const unchecked = wholeOf(identity, request);
  const hasQemuNbd = await hasProgram('qemu-nbd');
  const anyRange = partition === undefined ? undefined : { offset: 0n, size: 0n };
  const like = { ...unchecked, overlay, partition: anyRange, chunks: settings };
  if (wantsKept(request.keep)) refuseKeeping(like);
  await requirePrograms(shown, programsFor(like, hasQemuNbd));
  if (identity.local?.descriptor !== undefined) await requirePlugin(shown, 'data');
  const whole = snapshotName === undefined ? unchecked : await withSnapshot(unchecked, hasQemuNbd, signal);
  const kept = typeof overlay === 'object' ? { path: await overlayPath(overlay.path) } : undefined;
  const before = kept && (await overlayFor(whole, kept.path, hasQemuNbd, signal));
  if (kept !== undefined && before !== undefined && !dryRun) {
    made.add(() => removeOverlay(kept.path));
    await createOverlay(before);
  }
  // As it will be served: opening may repair the image, as QEMU replays the log of a VHDX. A new overlay has the
  // partitions of the image; an existing one may have others.
  const isNew = before !== undefined;
  const readOnly = whole.readOnly || isNew || dryRun;
  const seen = { ...whole, overlay: isNew ? undefined : (kept ?? overlay), readOnly };
  const located = partition === undefined ? undefined : await locate(seen, partition, hasQemuNbd, signal);
  const plan = { ...whole, overlay: kept ?? overlay, partition: located?.partition, chunks: settings };
  const lines = located?.warning === undefined ? [] : [located.warning];
  return { plan, hasQemuNbd, before, lines };
}

/**
 * Detects the format of an image, and chooses how to serve it.
 * @throws ImageError; TransportError, NbdServerError, NbdProtocolError if the image is on a server that fails
 */
export async function prepareImage(
  request: ImageRequest,
  options: PrepareOptions = {},
): Promise<PreparedImage> {
  const made = new Made();
  try {
    const prepared = await prepare(request, options, made);
    const undo = (): Promise<void> => {
      prepared.locks?.release();
      return made.remove();
    };
    return { ...prepared, undo };
  } catch (error) {
    await made.remove();
    throw error;
  }
}

async function prepare(request: ImageRequest, options: PrepareOptions, made: Made): Promise<Prepared> {
  const { dryRun = false } = options;
  const [why, found] = await Promise.all([
    installedOf(['qemu-nbd', 'nbdkit']).then(whyUnconfined),
    placeOf(request.name).then((whole) => withParts(whole, request.requested)),
  ]);
  const keyFile = request.keyFile === undefined ? undefined : await keyPath(request.keyFile);
  const settings = settingsFor(found.source, request);
  if (!dryRun) await createKept(request.keep, settings, made);
  const chunks = dryRun ? {} : settingsToInspect(found.source, request, settings);
  const place = { ...found, keyFile, isConfined: why === undefined, chunks };
  const identity = await identify(place, request, options);
  const { started } = identity;
  try {
    // Another server for the inspection may use the same files.
    if (identity.format !== 'raw') await started?.close();
    const settled = await settle({ identity, request, settings, options, made });
    const prepared = preparedFrom(identity, request, settled, why);
    const locks = dryRun ? undefined : lockFiles(settled.plan, programsFor(settled.plan, settled.hasQemuNbd));
    const isSame =
      !dryRun && identity.format === 'raw' && started?.argv.join('\0') === prepared.argv.join('\0');
    if (!isSame) await started?.close();
    return { ...prepared, locks, started: isSame ? started : undefined };
  } catch (error) {
    await started?.close();
    throw error;
  }
}

function preparedFrom(
  identity: Identity,
  request: ImageRequest,
  { plan, hasQemuNbd, before, lines }: Settled,
  why: string | undefined,
): Prepared {
  const argv = serverWords(plan, hasQemuNbd);
  return {
    argv,
    directory: serverDirectory(argv),
    before,
    passwordFile: plan.source.kind === 'web' ? plan.source.passwordFile : undefined,
    lines: [
      introduction(identity, plan, serversOf(plan, hasQemuNbd)),
      ...identity.lines,
      ...warnings(identity.place, request),
      ...lines,
    ],
    detail:
      why === undefined
        ? 'the image server runs in a sandbox'
        : `the image server runs without a sandbox: ${why}`,
  };
}
