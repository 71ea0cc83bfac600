// The worker: everything between the kernel's requests and the servers' replies.
//
// Runs in a thread of its own (worker.ts), or in the simulator. Its settings name one /dev/fuse descriptor and the files
// to show. It has no event loop: the main thread wakes it through a pipe, and it takes the messages that have come.

import type { ChunkStatus } from '../chunks/contract/status.js';
import { PAGE_SIZE } from '../linux/memory.js';
import type { Connection, Loss } from './connection/connection.js';
import { type Call, deliver } from './contract/call.js';
import type {
  FileAttachment,
  KeptFiles,
  ListChange,
  LocalCopy,
  PartDescription,
  ReadThreadEnd,
  ServedFile,
  ToWorker,
  WorkerSettings,
} from './contract/messages.js';
import { MAX_TRANSFER } from './device/device.js';
import type { Disk } from './disk/disk.js';
import { BlockCounts, FIRST_STATUS_TIME } from './fuse/block-counts.js';
import { Dispatcher } from './fuse/dispatch.js';
import { ExportDirectory } from './fuse/export-directory.js';
import { Files } from './fuse/files.js';
import { Metadata, type MetadataOptions } from './fuse/metadata.js';
import { Passthrough } from './fuse/passthrough.js';
import { Loop, type LoopControl } from './loop/loop.js';
import { Shutdown } from './loop/shutdown.js';
import { Watchdog } from './loop/watchdog.js';
import { ReadThreads } from './read-threads/read-threads.js';
import { Engine, type EngineEvents } from './request/engine.js';
import { KeptFile } from './request/kept-file.js';
import { Readahead } from './request/readahead.js';
import { Trace } from './request/trace.js';
import { StatusReporter } from './status.js';
import type { World } from './world.js';

/** Bytes of payload in use at which no new request is taken from the kernel. */
const MEMORY_LIMIT = 384 * 1024 * 1024;

/** Seconds for which the kernel may cache names and attributes: only the kernel changes them. */
const VALIDITY = 3600;
/** The same for names, where files come and go. */
const CHANGING_VALIDITY = 1;

function metadataOptions(
  settings: WorkerSettings,
  { system }: World,
  passthrough: Passthrough | undefined,
): MetadataOptions {
  const { cache, changing } = settings;
  return {
    cache,
    changing,
    validity: {
      entry: settings.entryTimeout ?? (changing ? CHANGING_VALIDITY : VALIDITY),
      attributes: settings.attributeTimeout ?? VALIDITY,
    },
    blocksValidity: settings.attributeTimeout,
    negativeValidity: settings.negativeTimeout ?? 0,
    keepPages: !settings.dropPagesOnOpen,
    passthrough,
    wallClock: system.wallClock,
  };
}

/** See the file's head. */
export class MountWorker implements EngineEvents, LoopControl, ToWorker {
  readonly wakeDescriptor: number;
  readonly #world: World;
  readonly #engine: Engine;
  readonly #files: Files;
  readonly #disks: readonly Disk[];
  /** Undefined where the files are always the same. */
  readonly #exportDirectory: ExportDirectory | undefined;
  readonly #dispatcher: Dispatcher;
  readonly #loop: Loop;
  readonly #take = (call: Call<ToWorker>): void => deliver<ToWorker>(call, this);
  readonly #shutdown: Shutdown;
  readonly #watchdog: Watchdog;
  /** Undefined without read threads. */
  readonly #readThreads: ReadThreads | undefined;
  readonly #status: StatusReporter;
  readonly #readahead: Readahead | undefined;
  readonly #kept: KeptFile;
  readonly #blockCounts: BlockCounts;
  readonly #passthrough: Passthrough | undefined;
  #saidReady = false;
  #initialized: number | undefined;

  constructor(settings: WorkerSettings, world: World) {
    this.#world = world;
    this.wakeDescriptor = settings.wake;
    const writeback = settings.cache === 'writeback';
    this.#engine = new Engine(
      {
        ...settings,
        descriptor: settings.device,
        keepExtents: writeback,
        kernelHoldsWrites: writeback,
        largestPayload: MAX_TRANSFER,
        memoryLimit: MEMORY_LIMIT,
      },
      settings.trace === undefined ? undefined : new Trace(settings.trace, world.system),
      this,
      world.system,
    );
    this.#files = new Files(settings.files, settings.fileMountpoint, settings.tree, this.#engine);
    this.#disks = this.#files.disks;
    const { tree, byNode } = this.#files;
    const { changing } = settings;
    this.#passthrough = this.#makePassthrough(settings);
    const options = metadataOptions(settings, world, this.#passthrough);
    const metadata = new Metadata(tree, this.#engine.device, byNode, options);
    this.#blockCounts = new BlockCounts(this.#engine, metadata);
    const init = {
      ...settings,
      writeback,
      directMmap: settings.cache === 'none',
      maxTransfer: MAX_TRANSFER,
      pageSize: PAGE_SIZE,
    };
    this.#readahead = settings.readAhead ? new Readahead(this.#engine) : undefined;
    this.#kept = new KeptFile(this.#engine);
    this.#exportDirectory = changing
      ? new ExportDirectory(this.#files, metadata, this.#engine, world.send)
      : undefined;
    if (settings.readThreads > 0)
      this.#readThreads = new ReadThreads(this.#engine, this.#disks[0], world.send);
    this.#status = new StatusReporter(
      settings,
      this.#engine,
      this.#files,
      this.#readThreads,
      this.#passthrough,
    );
    this.#dispatcher = new Dispatcher({
      engine: this.#engine,
      metadata,
      disks: byNode,
      parts: this.#files.parts,
      init,
      passthrough: this.#passthrough,
      prefetched: this.#readahead,
      kept: this.#kept,
      blockCounts: this.#blockCounts,
      status: (nodeid) => this.#status.ofNode(nodeid),
      exportDirectory: this.#exportDirectory,
      readThreads: this.#readThreads,
    });
    this.#loop = new Loop(this.#engine, this.#dispatcher, this.#disks, world.poll, this);
    this.#shutdown = new Shutdown(this.#engine, this.#disks, changing);
    this.#watchdog = new Watchdog({
      engine: this.#engine,
      disks: this.#disks,
      timeout: settings.timeout,
      parked: this.#exportDirectory,
      prefetched: this.#readahead,
    });
  }

  /** The engine's state, for the simulator. */
  get engine(): Engine {
    return this.#engine;
  }

  get disks(): readonly Disk[] {
    return this.#disks;
  }

  run(): void {
    try {
      this.#loop.run();
    } finally {
      // After a defect too: programs that wait for the kernel, and the server, must see the end.
      for (const { connections, closing } of this.#disks)
        for (const connection of [...connections, ...closing]) connection.end({ manner: 'finished' });
      this.#engine.buffers.discardShared();
      this.#passthrough?.close();
      this.#kept.end();
      this.#engine.device.close();
    }
    this.#world.send('stopped', this.#shutdown.outcome(this.#files.hasUnseenErrors));
  }

  connectionLost(disk: Disk, connection: Connection, { why, madeProgress, otherDisk }: Loss): void {
    this.#kept.end();
    if (!connection.closing) this.#loop.unwatch(connection);
    if (this.#shutdown.hasFailedAll) return;
    this.#world.send('connectionLost', disk.index, connection.number, why, { madeProgress, otherDisk });
  }

  connectionClosed(connection: Connection): void {
    this.#loop.unwatch(connection);
  }

  connectionAccepted(disk: Disk, connection: Connection): void {
    this.#world.send('connectionAccepted', disk.index, connection.number);
  }

  warn(disk: Disk, text: string): void {
    const name = disk.node.name === '' ? '' : `${disk.node.name}: `;
    this.#world.send('warning', `${name}${text}`);
  }

  syncWanted(disk: Disk): void {
    this.#world.send('syncWanted', disk.index);
  }

  wroteBeyondEnd(disk: Disk): void {
    this.#world.send('beyondEnd', disk.index);
  }

  takeCalls(): void {
    this.#world.takeCalls(this.#take);
    this.#serveReadThreads();
  }

  attach(attachment: FileAttachment): void {
    const { file, connection, info } = attachment;
    const channel = this.#world.openChannel(attachment, this.#engine.zeroCopy);
    const isUnwanted = this.#exportDirectory?.wants(file) === false;
    if (this.#shutdown.hasFailedAll || isUnwanted) {
      channel.close();
      if (isUnwanted) this.#world.send('idle', file);
      return;
    }
    this.#kept.end();
    const isFirst = this.#files.entry(file)?.disk === undefined;
    const disk = this.#files.use(file, info);
    this.#loop.watch(disk.attach(channel, connection, info, attachment.arrival));
    this.#blockCounts.begin(disk);
    if (isFirst) this.#exportDirectory?.arrived(disk);
  }

  fail(file: number, errno: number): void {
    this.#files.entry(file)?.disk?.fail(errno);
  }

  serverEnded(file: number, attached: number): void {
    this.#files.entry(file)?.disk?.serverEnded(attached);
  }

  synced(file: number, good: boolean): void {
    const disk = this.#files.entry(file)?.disk;
    if (disk !== undefined) this.#engine.synced(disk, good);
  }

  listed(change: ListChange): void {
    this.#exportDirectory?.listed(change);
  }

  described(file: number, description: ServedFile, errno: number): void {
    if (errno === 0) this.#files.describe(file, description);
    this.#exportDirectory?.described(file, errno);
  }

  refuse(file: number, errno: number): void {
    this.#exportDirectory?.refused(file, errno);
  }

  showParts(file: number, parts: readonly PartDescription[]): void {
    for (const part of parts) this.#files.addPart(file, part);
  }

  chunksChanged(file: number, chunks: ChunkStatus): void {
    this.#status.chunks.set(file, chunks);
  }

  readKept(file: number, files: KeptFiles | undefined): void {
    this.#kept.end();
    if (files === undefined) return;
    const disk = this.#files.entry(file)?.disk;
    const parts = this.#world.openKept(files);
    // Without NBD_CMD_CACHE the chunk server would not know which bytes are in use.
    if (disk?.can.cache === true && disk.can.readOnly) this.#kept.use(disk, parts);
    else parts.close();
  }

  addReadThread(thread: ReadThreadEnd): void {
    this.#readThreads?.add(thread);
  }

  prove(): void {
    this.#readThreads?.prove();
  }

  tellStatus(): void {
    this.#world.send('status', this.#status.all());
  }

  passThrough(copy: LocalCopy): void {
    this.#world.send(
      'passedThrough',
      this.#passthrough?.use(copy, this.#disks[0]) ?? 'there is no cache file',
    );
  }

  stop(timeout: number): void {
    this.#kept.tell();
    this.#loop.stopListening();
    this.#shutdown.begin(this.#engine.now() + timeout);
  }

  unmounted(): void {
    this.#world.send('unmounted');
    this.#kept.tell();
    this.#shutdown.deviceGone();
    this.#shutdown.begin(Number.POSITIVE_INFINITY);
  }

  turn(now: number): boolean {
    if (this.#dispatcher.ready && !this.#saidReady) this.#becomeReady(now);
    this.#watchdog.look(now);
    this.#blockCounts.look(now);
    this.#kept.look(now);
    if (this.#readThreads?.look()) {
      this.#serveReadThreads();
      this.#loop.flush();
    }
    if (this.#exportDirectory !== undefined) this.#lookAfter(this.#exportDirectory, now);
    const isOver = this.#shutdown.advance(now);
    if (isOver) this.#readahead?.clear();
    if (this.#shutdown.hasFailedAll && !isOver) this.#loop.listenAgain();
    return isOver;
  }

  patience(): number {
    if (this.#shutdown.begun || (this.#dispatcher.ready && !this.#saidReady)) return 50;
    const times = [
      this.#watchdog.patience,
      this.#blockCounts.patience,
      this.#kept.patience,
      this.#exportDirectory?.patience ?? -1,
    ];
    const due = times.filter((time) => time >= 0);
    return due.length === 0 ? -1 : Math.min(...due);
  }

  #makePassthrough({ passthrough }: WorkerSettings): Passthrough | undefined {
    if (passthrough === undefined) return undefined;
    const say = (text: string): void => this.#world.send('detail', text);
    return new Passthrough(this.#engine.device, passthrough.objection, say);
  }

  /** Closes the connections of idle files, and flushes when unflushed writes use up the memory. */
  #lookAfter(exportDirectory: ExportDirectory, now: number): void {
    if (this.#engine.buffers.exhausted) for (const disk of this.#disks) disk.relieve();
    if (this.#shutdown.begun) return;
    for (const disk of exportDirectory.look(now)) {
      for (const connection of disk.connections) {
        this.#loop.unwatch(connection);
        connection.end({ manner: 'finished' });
      }
      exportDirectory.retired(disk);
    }
  }

  #serveReadThreads(): void {
    this.#readThreads?.serve(this.#engine.device, this.#dispatcher);
  }

  /** Reports the mount as ready. Waits for the first BLOCK_STATUS: programs look at `st_blocks` to find holes. */
  #becomeReady(now: number): void {
    this.#initialized ??= now;
    const looked = this.#disks.every((disk) => disk.hasLookedForHoles || !disk.can.allocation);
    if (!looked && now - this.#initialized < FIRST_STATUS_TIME) return;
    this.#saidReady = true;
    this.#world.send('ready');
  }
}
