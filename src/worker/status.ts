// Who tells the status of the files that a worker shows, together with what its readers have done.

import type { FileStatus, WorkerSettings } from './contract/messages.js';
import { type Status, statusOf } from './contract/status.js';
import type { Disk } from './disk/disk.js';
import type { Files } from './fuse/files.js';
import type { ReadThreads } from './read-threads/read-threads.js';
import type { Engine } from './request/engine.js';

/** See the file's head. */
export class StatusReporter {
  readonly #cache: WorkerSettings['cache'];
  readonly #engine: Engine;
  readonly #files: Files;
  readonly #readThreads: ReadThreads | undefined;
  readonly #startedAt: number;

  constructor(
    { cache }: Pick<WorkerSettings, 'cache'>,
    engine: Engine,
    files: Files,
    readThreads: ReadThreads | undefined,
  ) {
    this.#cache = cache;
    this.#engine = engine;
    this.#startedAt = engine.now();
    this.#files = files;
    this.#readThreads = readThreads;
  }

  /** The status of every file that is in use. */
  all(): readonly FileStatus[] {
    return this.#files.disks.map((disk) => ({ file: disk.index, status: this.#of(disk) }));
  }

  /** How to see the status of a node, if it is a file. */
  ofNode(nodeid: number): (() => Status) | undefined {
    const disk = this.#files.diskForStatus(nodeid);
    return disk === undefined ? undefined : () => this.#of(disk);
  }

  #of(disk: Disk): Status {
    const entry = this.#files.entry(disk.index);
    const { server = '', tls = false } = entry?.file ?? {};
    return statusOf(disk, {
      inFlight: this.#engine.requests.asked(disk),
      inUse: entry?.disk === disk,
      cache: this.#cache,
      uptime: Math.round((this.#engine.now() - this.#startedAt) / 1000),
      server,
      tls,
      readers: this.#readThreads?.connected ?? [],
      readersCounters: this.#readThreads?.counters ?? [],
    });
  }
}
