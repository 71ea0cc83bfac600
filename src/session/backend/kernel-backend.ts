// The default backend: a worker thread serves the kernel's FUSE device.
//
// Made by start.ts. Owns the mount; the worker owns the device and the connections.

import type { Worker } from 'node:worker_threads';
import type { ChunkStatus, KeptImage } from '../../chunks/contract/status.js';
import { administersSystem } from '../../linux/capabilities.js';
import { using } from '../../linux/path.js';
import { type KernelMount, mountKernel } from '../../mount/attach.js';
import { type OtherPlace, openAt } from '../../mount/other-places.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import { reasonOf } from '../../transport/errors.js';
import type { ListChange, PartDescription, ServedFile } from '../../worker/contract/messages.js';
import type { CacheMode } from '../../worker/contract/status.js';
import {
  closeKept,
  type IdleThreads,
  WorkerHandle,
  type WorkerOptions,
} from '../../worker/host/worker-handle.js';
import { dismissWorker, spawnReadThread, whenLoaded } from '../../worker/spawn.js';
import { Deadline } from '../deadline.js';
import { Semaphore } from '../semaphore.js';
import { programVersion } from '../version.js';
import type { Backend, BackendRequest, DirectoryAnswers, PreparedBackend } from './backend.js';
import { openKept } from './kept-files.js';
import { withLocalCopy } from './local-copy.js';
import { hasOwnFileCalls, type OwnFile, readAttributes, setSize, writeBack } from './own-file.js';
import { treeOptions } from './tree-options.js';

/** Bytes of unflushed writes that are kept: of the single file, and of each file with --all. */
const UNFLUSHED_LIMIT = 64 * 1024 * 1024;
const UNFLUSHED_LIMIT_EACH = 16 * 1024 * 1024;

/** Maximum concurrent system calls on our own files: each is a process, maybe until the server has answered. */
const MOST_AT_ONCE = 2;

/**
 * Whether we can set the size of a file that is the mountpoint. In writeback mode the kernel believes that it alone
 * changes sizes, and begins with 0: only truncate(2) sets another one.
 */
async function canSetSize({ files, options }: BackendRequest): Promise<boolean> {
  const mayWrite = process.geteuid?.() === 0 || (options.uid === undefined && options.umask === undefined);
  if (!mayWrite || !files.every(({ info }) => info !== undefined && info.size <= Number.MAX_SAFE_INTEGER))
    return false;
  return hasOwnFileCalls();
}

/** Whether no file is writable, now or later. */
function isReadOnly({ changing, files, settings, options }: BackendRequest): boolean {
  return changing ? settings.readOnly || options.readOnly : files.every(({ readOnly }) => readOnly);
}

async function cacheMode(request: BackendRequest): Promise<CacheMode> {
  const { settings, options, mountpoint } = request;
  if (options.directIo) return 'none';
  if (settings.cache !== 'writeback') return settings.cache;
  if (isReadOnly(request)) return 'writethrough';
  return mountpoint.kind === 'file' && !(await canSetSize(request)) ? 'writethrough' : 'writeback';
}

/** Why the kernel cannot read a local file in place of the mount's; undefined if only the kernel may know a reason. */
function passthroughObjection(request: BackendRequest, cache: CacheMode): string | undefined {
  if (request.changing || request.settings.partitions)
    return 'only the single file of a mount can have it, not --all or --partitions';
  if (!isReadOnly(request)) return 'the mount is not read-only: see -r';
  if (cache === 'none') return 'with --cache=none the kernel keeps nothing';
  if (!administersSystem())
    return 'nbdfuse lacks the capability SYS_ADMIN of the first user namespace, which root has';
  return undefined;
}

function workerOptions(
  request: BackendRequest,
  { device }: KernelMount,
  { cache, version }: Pick<WorkerOptions, 'cache' | 'version'>,
): WorkerOptions {
  const { settings, options, mountpoint, files, changing, threads } = request;
  return {
    version,
    device,
    files,
    changing,
    fileMountpoint: mountpoint.kind === 'file',
    tree: treeOptions(options),
    cache,
    trace: settings.verbose ? settings.logFormat : undefined,
    unflushedLimit: !request.reconnectable ? 0 : changing ? UNFLUSHED_LIMIT_EACH : UNFLUSHED_LIMIT,
    wholeReads: request.wholeReads,
    timeout: settings.timeoutMs,
    settleTime: settings.settleMs,
    asyncRead: options.asyncRead,
    maxBackground: options.maxBackground,
    congestionThreshold: options.congestionThreshold,
    maxReadahead: options.maxReadahead,
    attributeTimeout: options.attributeTimeout,
    entryTimeout: options.entryTimeout,
    negativeTimeout: options.negativeTimeout,
    readAhead: cache !== 'none' && options.maxReadahead !== 0 && !request.serverReadsAhead,
    passthrough: request.localCopy ? { objection: passthroughObjection(request, cache) } : undefined,
    // The kernel caches the pages of each file separately: see docs/internals/decisions/0030-partitions.md.
    dropPagesOnOpen: options.autoCache || settings.partitions,
    readThreads: threads - 1,
    firstReadThreadConnection: settings.connections,
  };
}

/** Prepares a backend with an idle worker; `start` may be called once. */
export function prepareKernelBackend(worker: Worker): PreparedBackend {
  let idle: Worker | undefined = worker;
  const takeWorker = (): Worker => {
    idle = undefined;
    return worker;
  };
  return {
    start: async (request) => {
      await whenLoaded(worker);
      const readThreads = await loadReadThreads(request);
      try {
        return await startKernelBackend(request, () => ({ worker: takeWorker(), readThreads }));
      } catch (error) {
        if (idle !== undefined) for (const thread of readThreads) await dismissWorker(thread);
        throw error;
      }
    },
    discard: async () => {
      if (idle !== undefined) await dismissWorker(takeWorker());
    },
  };
}

/** Starts the read threads before the mount, which may cover their files. Reports those that cannot start. */
async function loadReadThreads({ threads, events }: BackendRequest): Promise<readonly Worker[]> {
  const started = Array.from({ length: threads - 1 }, spawnReadThread);
  const outcomes = await Promise.allSettled(started.map(whenLoaded));
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure !== undefined)
    events.warning(`cannot start a read thread: ${String(failure.reason)}; fewer threads serve the mount`);
  return started.filter((_, i) => outcomes[i].status === 'fulfilled');
}

async function startKernelBackend(request: BackendRequest, takeThreads: () => IdleThreads): Promise<Backend> {
  const { mountpoint, options, events } = request;
  const cache = await cacheMode(request);
  // Reads a file, which the mount may cover.
  const version = programVersion();
  const mount = await mountKernel(mountpoint, { ...options, readOnly: isReadOnly(request) });
  const files = new ShownFiles(mount, request.files);
  const worker = WorkerHandle.start(
    workerOptions(request, mount, { cache, version }),
    {
      ...events,
      syncWanted: (file) => {
        files.writeBack(file).then(
          () => worker.send('synced', file, true),
          () => worker.send('synced', file, false),
        );
      },
      beyondEnd: (file) => {
        // This undoes a write beyond the end; nothing else can be done if it fails.
        void files.setSize(file).catch(() => undefined);
      },
    },
    takeThreads(),
  );
  const prepareDirectory = async (): Promise<void> => {
    await worker.ready;
    await mount.register();
  };
  const prepareFile = async (): Promise<void> => {
    await worker.ready;
    // Until the kernel knows the owner of the file, it assumes user 0; in a user namespace without user 0 it would let
    // nobody write.
    await (cache === 'writeback' ? files.setSize(0) : files.readAttributes(0));
  };
  return new KernelBackend(
    mount,
    worker,
    files,
    mountpoint.kind === 'file' ? prepareFile() : prepareDirectory(),
  );
}

/** The files of our mount, for system calls. Each call is made on a file that is verified to be in our mount. */
class ShownFiles {
  readonly #mount: KernelMount;
  readonly #files: Map<number, ServedFile>;
  /** The files that show parts of the only disk. */
  readonly #parts: number[] = [];
  readonly #semaphore = new Semaphore(MOST_AT_ONCE);

  constructor(mount: KernelMount, files: readonly ServedFile[]) {
    this.#mount = mount;
    this.#files = new Map(files.map((file, number) => [number, file]));
  }

  change({ added, removed }: ListChange): void {
    for (const number of removed) this.#files.delete(number);
    for (const { number, file } of added) this.#files.set(number, file);
  }

  /** Updates a file, if it still exists. */
  describe(number: number, file: ServedFile): void {
    if (this.#files.has(number)) this.#files.set(number, file);
  }

  /** Sets the kernel's size of a file. */
  async setSize(number: number): Promise<void> {
    const { info } = this.#find(number);
    if (info === undefined) return;
    await this.#act(number, (file) => setSize(file, Number(info.size)));
  }

  /** Makes the kernel ask for the attributes of a file. */
  readAttributes(number: number): Promise<void> {
    return this.#act(number, readAttributes);
  }

  /** Bytes of a file; undefined where they are not known. */
  size(number: number): bigint | undefined {
    return this.#files.get(number)?.info?.size;
  }

  /** Adds files of the same disk as `number`, with the numbers after it. */
  addParts(number: number, parts: readonly PartDescription[]): void {
    const whole = this.#find(number);
    for (const [i, { name }] of parts.entries()) {
      this.#files.set(number + 1 + i, { ...whole, name });
      this.#parts.push(number + 1 + i);
    }
  }

  /** Writes out the kernel's cache of a file and of the parts of its disk. @throws Error when that fails, or the file was replaced meanwhile */
  async writeBack(number: number): Promise<void> {
    for (const one of [number, ...this.#parts]) await this.#act(one, writeBack);
    this.#find(number);
  }

  /** See Backend.open. */
  async open(number: number, place: OtherPlace | undefined): Promise<number | undefined> {
    const file = this.#files.get(number);
    if (file === undefined) return undefined;
    return place === undefined ? this.#mount.open(file.name) : openAt(place, file.name);
  }

  #act(number: number, act: (file: OwnFile) => Promise<void>): Promise<void> {
    return this.#semaphore.take(async () => {
      const { name } = this.#find(number);
      const root = await this.#mount.open('');
      await using(root, () => act({ root, name }));
    });
  }

  #find(number: number): ServedFile {
    const file = this.#files.get(number);
    if (file === undefined) throw new RangeError(`file ${number} is not shown any more`);
    return file;
  }
}

class KernelBackend implements Backend {
  readonly ready: Promise<void>;
  readonly directory: DirectoryAnswers;
  readonly addReadThread: Backend['addReadThread'];
  readonly #mount: KernelMount;
  readonly #worker: WorkerHandle;
  readonly #files: ShownFiles;

  constructor(mount: KernelMount, worker: WorkerHandle, files: ShownFiles, ready: Promise<void>) {
    this.#mount = mount;
    this.#worker = worker;
    this.#files = files;
    this.directory = {
      listed: (change) => {
        files.change(change);
        worker.send('listed', change);
      },
      described: (number, file, errno) => {
        if (errno === 0) files.describe(number, file);
        worker.send('described', number, file, errno);
      },
      refuse: (file, errno) => worker.send('refuse', file, errno),
    };
    this.addReadThread = async (negotiated, owner) => {
      if (!(await worker.prove())) return false;
      worker.addReadThread(negotiated.takeSocket(), negotiated.info, owner);
      return true;
    };
    this.ready = ready;
    // A caller that awaits `ready` sees a failure; a start that was cancelled before does not await it.
    ready.catch(() => undefined);
  }

  attach(file: number, connection: number, negotiated: NegotiatedConnection): void {
    this.#worker.attach(file, connection, negotiated.takeSocket(), negotiated.info);
  }

  async showParts(file: number, parts: readonly PartDescription[]): Promise<void> {
    this.#files.addParts(file, parts);
    this.#worker.send('showParts', file, parts);
    // The worker answers in order.
    await this.#worker.status();
  }

  chunksChanged(file: number, chunks: ChunkStatus): void {
    this.#worker.send('chunksChanged', file, chunks);
  }

  async readKept(path: string, image: KeptImage | undefined, isCurrent: () => boolean): Promise<void> {
    const files = image && (await openKept(path, image));
    if (isCurrent()) this.#worker.send('readKept', 0, files);
    else closeKept(files);
  }

  fail(file: number, errno: number): void {
    this.#worker.send('fail', file, errno);
  }

  onServerEnd(file: number): () => void {
    const attached = this.#worker.attached(file);
    return () => this.#worker.send('serverEnded', file, attached);
  }

  open(file: number, place?: OtherPlace): Promise<number | undefined> {
    return this.#files.open(file, place);
  }

  otherPlaces(): ReturnType<Backend['otherPlaces']> {
    return { left: () => this.#mount.otherPlaces() };
  }

  async usePassthrough(path: string): Promise<string | undefined> {
    try {
      await this.ready;
      const why = await withLocalCopy(path, this.#files.size(0), (copy) => this.#worker.passThrough(copy));
      return why === '' ? undefined : why;
    } catch (error) {
      return reasonOf(error);
    }
  }

  status(): ReturnType<Backend['status']> {
    return this.#worker.status();
  }

  unmount(options: { readonly lazy: boolean }): Promise<void> {
    return this.#mount.unmount(options);
  }

  stop(milliseconds: number): ReturnType<Backend['stop']> {
    const deadline = new Deadline(milliseconds);
    return this.#worker.stop(() => deadline.remaining);
  }
}
