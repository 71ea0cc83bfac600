// The chunk server: an NBD server of nbdfuse's own, which decodes and keeps images. A process of its own.
//
// nbdfuse starts it as the server of an image. A crash of a decoder, which is native code and gets strangers' bytes, ends
// this process and not the mount.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { titleWithoutSecrets } from '../nbd/secrets.js';
import { printable } from '../nbd/text.js';
import { openCacheFile } from './cache/cache-file.js';
import { MemoryCache } from './cache/memory.js';
import { isAlike, isSameImage, savedIdentity } from './cache/saved-identity.js';
import type { Identity, UnitFile } from './contract/cache.js';
import type { Input } from './contract/coding.js';
import type { ServedDisk } from './contract/disk.js';
import type { ControlLine, KeptImage, Writers } from './contract/status.js';
import { unitsOf } from './contract/units.js';
import { useLiblzma } from './decode/liblzma.js';
import { chooseLiblzma } from './decode/liblzma-file.js';
import { readOnlyDisk } from './disk/read-only-disk.js';
import { flushFirst, followServer, writableDisk } from './disk/writable-disk.js';
import { AbsentInput } from './input/absent-input.js';
import { comparedInput } from './input/compared-input.js';
import { openFileInput } from './input/file-input.js';
import { NbdInput, type NbdInputOptions } from './input/nbd-input.js';
import { rangedInput } from './input/ranged-input.js';
import { type ChunkServerOptions, parseOptions } from './options.js';
import { startDecodePool, type ThreadProgram } from './reader/decode-pool.js';
import { textOf } from './reader/errors.js';
import { type Image, openImage } from './reader/image.js';
import { hasOtherBytes, versionOfContent } from './reader/same-disk.js';
import { fileStatus, Work } from './reader/work.js';
import { inheritedListener } from './serve/activation.js';
import { type Control, controlPath, startControl } from './serve/control.js';
import { RunningCommand } from './serve/run.js';
import { type DiskServer, serveDisk } from './serve/serve.js';

/** Writes a line for the user. */
function say(line: string): void {
  process.stderr.write(`nbdfuse: ${printable(line)}\n`);
}

/** Milliseconds between two looks at the state, for the clients of the control socket. */
const STATUS_INTERVAL = 1000;

/** nbdfuse's own liblzma, for processors that have one: scripts/bundle.mjs puts it beside the program. */
const OWN_LIBLZMA = fileURLToPath(new URL(`./liblzma-${process.arch}.so`, import.meta.url));

/** The program of the decode threads, which start when there is work for them. */
function threadProgram(liblzma: string | undefined): ThreadProgram {
  const launch = createRequire(import.meta.url)('./launch.js') as { keep(name: string): ThreadProgram };
  const { code, workerData } = launch.keep('decode-thread.body.js');
  return { code, workerData: { ...workerData, liblzma } };
}

type OnEnd = NbdInputOptions['onEnd'];

/** @param onEnd see NbdInputOptions */
function openInput({ input, connections }: ChunkServerOptions, onEnd: OnEnd): Promise<Input> {
  if ('file' in input) return openFileInput(input.file);
  return NbdInput.open({ server: input, connections, onEnd });
}

/** The part of the file that is decoded. */
function rangeOf(input: Input, { range }: ChunkServerOptions): Input {
  return range === undefined ? input : rangedInput(input, range);
}

async function identityOf(
  input: Input,
  { source, version: given, isWeakVersion, coding, check, range, part }: ChunkServerOptions,
): Promise<Identity> {
  const isTelling = given !== '' && !isWeakVersion;
  const needsDigest = !isTelling && coding !== 'plain' && !(input instanceof AbsentInput);
  const version = needsDigest ? `${given} ${await versionOfContent(input)}`.trim() : given;
  const places = [range, part].map((one) => (one === undefined ? '' : `${one.offset}+${one.length}`));
  const checks = check === undefined ? '' : `crc=${check.crcs.join('+')}`;
  return { source, version, coding: [coding, ...places, checks].join(' ').trim(), fileSize: input.size };
}

/** The source, or, where it cannot be reached, what the cache file remembers of it. */
async function reachableInput(options: ChunkServerOptions, onEnd: OnEnd): Promise<Input> {
  try {
    return rangeOf(await openInput(options, onEnd), options);
  } catch (error) {
    const { cacheFile, source, input, isWritable } = options;
    // nbdfuse has connected to a server with a URI before: the mount waits for it, and compares its properties.
    const saved =
      cacheFile === undefined || isWritable || 'uri' in input ? undefined : await savedIdentity(cacheFile);
    if (saved === undefined || saved.identity.source !== source) throw error;
    say(`${textOf(error)}; what the cache file has is served without it`);
    return new AbsentInput(saved.identity.fileSize, textOf(error));
  }
}

/** Words of nbdkit for a file that is not the one of the condition in its command line. */
const HAS_CHANGED = /\berror: 412\b/;

/**
 * Opens a source that could not be reached at the start, and compares it with the image of the cache file, as a start
 * does. @throws Error while it cannot be reached
 */
async function returnedInput(
  options: ChunkServerOptions,
  file: UnitFile | undefined,
  onEnd: OnEnd,
): Promise<Input | 'other'> {
  try {
    const found = await comparedInput({
      open: (whenEnded) => openInput(options, whenEnded),
      isSame: (whole) => isImageOf(options, file, whole),
      onEnd,
    });
    return found === 'other' ? found : rangeOf(found, options);
  } catch (error) {
    if (HAS_CHANGED.test(textOf(error))) return 'other';
    throw error;
  }
}

/** Whether a source has the image of the cache file. @throws Error when it cannot be read */
async function isImageOf(
  options: ChunkServerOptions,
  file: UnitFile | undefined,
  whole: Input,
): Promise<boolean> {
  const { cacheFile = '', coding, range } = options;
  if (range !== undefined && range.offset + range.length > whole.size) return false;
  const input = rangeOf(whole, options);
  // A web server may refuse reads only.
  await input.read(0, Math.min(1, input.size));
  const saved = await savedIdentity(cacheFile);
  if (saved === undefined) return false;
  const isSame = options.version === '' ? isAlike : isSameImage;
  if (!isSame(saved.identity, await identityOf(input, options))) return false;
  return coding !== 'plain' || file === undefined || !(await hasOtherBytes(file, input));
}

/** How the cache file of an image is opened, once the size of the image is known. */
function fileOpener(options: ChunkServerOptions, input: Input) {
  const { cacheFile: path, cacheSize: limit } = options;
  if (path === undefined) return undefined;
  return async (size: number | undefined): Promise<UnitFile | undefined> => {
    const saved = await savedIdentity(path);
    const own = await identityOf(input, options);
    const isAbsent = input instanceof AbsentInput;
    const identity = saved !== undefined && isAbsent ? saved.identity : own;
    const known = saved !== undefined && isSameImage(saved.identity, identity) ? saved.size : undefined;
    if (size === undefined && known === undefined) return undefined;
    const bytes = size ?? known ?? 0;
    const file = await openCacheFile({
      path,
      identity,
      size: bytes,
      limit,
      createParents: true,
      onFailure: say,
      onLine: say,
    });
    if (file !== undefined && identity.version === '' && !isAbsent) await emptyOther(file, path, input);
    return file;
  };
}

/** Empties a cache file if its source, of which no version is known, is another disk. */
async function emptyOther(file: UnitFile, path: string, input: Input): Promise<void> {
  if (!(await hasOtherBytes(file, input))) return;
  await file.drop(0, unitsOf(input.size));
  const goesOn =
    file.refusal === undefined ? 'it is started anew' : `going on without it, since ${file.refusal}`;
  say(`the cache ${path} has other bytes than its source: ${goesOn}`);
}

/** The disk that is served: an image, or the disk of an NBD server. */
async function diskOf(
  { coding, part, isWritable }: ChunkServerOptions,
  input: Input,
  image: Image,
): Promise<ServedDisk> {
  const { reader, file } = image;
  if (input instanceof NbdInput && coding === 'plain') {
    if (part !== undefined) followServer(input, reader, false);
    else {
      const disk = writableDisk(input, reader, isWritable);
      if (file !== undefined) await flushFirst(input, reader);
      return disk;
    }
  }
  const { offset, length: size } = part ?? { offset: 0, length: reader.map.size };
  if (offset + size > reader.map.size) throw new Error('the part lies behind the end of the image');
  return readOnlyDisk({ reader, offset, size });
}

/** The chunk server while it runs. */
class ChunkServer {
  readonly #options: ChunkServerOptions;
  readonly #memory: MemoryCache;
  #indexing: ControlLine['indexing'];
  #image: Image | undefined;
  #input: Input | undefined;
  #server: DiskServer | undefined;
  #work: Work | undefined;
  #control: Control | undefined;
  #running: RunningCommand | undefined;
  /** Known from the first reason to end on: SIGTERM to a server that has failed does not make it a success. */
  #exitStatus: number | undefined;
  #isStopping = false;

  constructor(options: ChunkServerOptions) {
    this.#options = options;
    this.#memory = new MemoryCache(options.cacheMemory);
  }

  async run(): Promise<void> {
    const { fd, path } = inheritedListener();
    process.on('SIGTERM', () => void this.#stop(0));
    process.on('SIGINT', () => void this.#stop(0));
    if (path !== undefined) this.#control = await startControl(controlPath(path), () => this.#status());
    let listener = fd;
    if (this.#options.run !== undefined) {
      this.#running = await RunningCommand.start(this.#options.run, fd);
      listener = this.#running.listener;
      void this.#running.ended.then((status) => this.#stop(status));
    }
    const disk = await this.#open();
    if (!this.#isStopping) this.#server = await serveDisk(listener, disk);
  }

  async #open(): Promise<ServedDisk> {
    const options = this.#options;
    const { coding, check, prefetch, trace, source } = options;
    const liblzma = coding === 'xz' ? chooseLiblzma(OWN_LIBLZMA) : undefined;
    if (liblzma !== undefined) useLiblzma(liblzma);
    const input = await reachableInput(options, (how) => this.#end(how));
    this.#input = input;
    const image = await openImage({
      input,
      coding,
      check,
      memory: this.#memory,
      openFile: fileOpener(options, input),
      startPool: (onMessage) => startDecodePool(threadProgram(liblzma), onMessage),
      onLine: (line) => say(source === '' ? line : `${source}: ${line}`),
      onProgress: (done, all) => {
        this.#indexing = done < all ? { done, all } : undefined;
        this.#control?.changed();
      },
    });
    this.#image = image;
    this.#indexing = undefined;
    const disk = await diskOf(options, input, image);
    const onChange = (): void => this.#control?.changed();
    const isAway = input instanceof AbsentInput;
    this.#work = await Work.start({
      ...{ image, memory: this.#memory, prefetch, trace, isAway },
      onChange,
      onLine: say,
    });
    if (input instanceof AbsentInput) input.look(() => this.#find(image));
    this.#control?.changed();
    setInterval(onChange, STATUS_INTERVAL).unref();
    return disk;
  }

  /** Looks for the source of an image that only the cache file has so far. */
  async #find({ file }: Image): Promise<Input | 'other'> {
    const { source } = this.#options;
    const found = await returnedInput(this.#options, file, (how) => this.#end(how));
    const isOther = found === 'other';
    say(
      isOther
        ? `${source}: the server has another file now; what the cache file has is served without it: mount it again`
        : `${source}: the server can be reached again`,
    );
    if (!isOther) this.#work?.sourceIsBack();
    return found;
  }

  #status(): ControlLine {
    const { cacheFile, cacheSize } = this.#options;
    const { used, limit } = this.#memory;
    const counts = { hits: 0, misses: 0, fetched: 0 };
    const work = this.#work?.status ?? {
      size: undefined,
      memory: { used, limit },
      prefetch: undefined,
      ...counts,
    };
    return {
      ...work,
      file: fileStatus(this.#image?.file, cacheFile, cacheSize),
      indexing: this.#indexing,
      writers: this.#writers,
      kept: this.#kept,
    };
  }

  /** Undefined until the disk is served, whose cache file may be one of another disk before. */
  get #kept(): KeptImage | undefined {
    const { isWritable, part } = this.#options;
    const nonce = this.#image?.file?.nonce;
    if (this.#image === undefined || this.#work === undefined || isWritable || nonce === undefined)
      return undefined;
    const { size } = this.#image.reader.map;
    return size === 0 ? undefined : { nonce, size, offset: part?.offset ?? 0 };
  }

  /** The processes below that carry out changes; undefined: unknown. */
  get #writers(): Writers | undefined {
    if (!this.#options.isWritable) return { pids: [], groups: [] };
    return this.#input instanceof NbdInput ? this.#input.writers : undefined;
  }

  /** Ends with the server below. */
  async #end(how: string): Promise<void> {
    if (this.#exitStatus === undefined) say(how);
    this.#exitStatus ??= 1;
    // Before the command above ends, which takes time: the cache must not answer for a server that has ended.
    await this.#server?.close();
    await this.#stop(this.#exitStatus);
  }

  async #stop(status: number): Promise<void> {
    this.#exitStatus ??= status;
    if (this.#isStopping) return;
    this.#isStopping = true;
    await this.#running?.stop();
    // A request that the closed cache makes fail would be an error; without a reply it is a loss, and made again.
    await this.#server?.close();
    await this.#work?.stop();
    await this.#image?.close();
    await this.#control?.close();
    process.exit(this.#exitStatus);
  }
}

export async function main(words: readonly string[]): Promise<void> {
  const title = titleWithoutSecrets('nbdfuse-chunks', words);
  if (title !== undefined) process.title = title;
  try {
    await new ChunkServer(parseOptions(words)).run();
  } catch (error) {
    say(textOf(error));
    process.exit(1);
  }
}
