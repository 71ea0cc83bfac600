// The default backend: the kernel's FUSE device, served by the bridge's worker.
//
// Made by session.ts. Owns the mount; the worker owns the device and the connections.

import { stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { Bridge, type BridgeOptions } from '../bridge/bridge.js';
import { dismissWorker } from '../bridge/spawn.js';
import { type KernelMount, mountKernel } from '../mount/attach.js';
import { sendHeldWrites } from '../os/sync.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Backend, BackendRequest, PreparedBackend } from './backend.js';
import type { CacheMode } from './settings.js';
import { treeOptions } from './tree-options.js';

/** Bytes of written data that are remembered until the server has flushed them. */
const KEEP_BYTES = 64 * 1024 * 1024;

/**
 * Whether we can tell the kernel the size of a file that is the mountpoint. It takes it from nobody
 * but truncate(2) then: it believes that it alone changes sizes, and begins with none.
 */
function canSetSize({ files, options }: BackendRequest): boolean {
  const mayWrite = process.geteuid?.() === 0 || (options.uid === undefined && options.umask === undefined);
  return mayWrite && files.every(({ info }) => info.size <= Number.MAX_SAFE_INTEGER);
}

function cacheMode(request: BackendRequest): CacheMode {
  const { settings, options, mountpoint, files } = request;
  if (options.directIo) return 'none';
  if (settings.cache !== 'writeback') return settings.cache;
  const nothingToWrite = files.every(({ readOnly }) => readOnly);
  const sizeStaysUnknown = mountpoint.kind === 'file' && !canSetSize(request);
  return nothingToWrite || sizeStaysUnknown ? 'writethrough' : 'writeback';
}

function bridgeOptions(request: BackendRequest, { device }: KernelMount): BridgeOptions {
  const { settings, options, mountpoint, files } = request;
  return {
    device,
    files,
    naked: mountpoint.kind === 'file',
    tree: treeOptions(options),
    cache: cacheMode(request),
    trace: settings.verbose ? settings.logFormat : undefined,
    keepBytes: request.reconnectable ? KEEP_BYTES : 0,
    timeout: settings.timeoutMs,
    asyncRead: options.asyncRead,
    maxBackground: options.maxBackground,
    congestionThreshold: options.congestionThreshold,
    maxReadahead: options.maxReadahead,
    attributeTimeout: options.attributeTimeout,
    entryTimeout: options.entryTimeout,
    negativeTimeout: options.negativeTimeout,
    readAhead: cacheMode(request) !== 'none' && options.maxReadahead !== 0,
    dropPagesOnOpen: options.autoCache,
  };
}

/** Has a worker that waits for its work, and mounts when asked to, once. */
export function prepareKernelBackend(worker: Worker): PreparedBackend {
  let idle: Worker | undefined = worker;
  const takeWorker = (): Worker => {
    idle = undefined;
    return worker;
  };
  return {
    start: (request) => startKernelBackend(request, takeWorker),
    discard: async () => {
      if (idle !== undefined) await dismissWorker(takeWorker());
    },
  };
}

async function startKernelBackend(request: BackendRequest, takeWorker: () => Worker): Promise<Backend> {
  const { mountpoint, options, files, events } = request;
  const readOnly = files.every((file) => file.readOnly);
  const mount = await mountKernel(mountpoint, { ...options, readOnly });
  const setSize = (file: number): Promise<void> =>
    truncate(join(mountpoint.path, files[file].name), Number(files[file].info.size));
  const bridge = Bridge.start(
    bridgeOptions(request, mount),
    {
      ...events,
      syncWanted: (file) => {
        const done = (): void => bridge.synced(file);
        sendHeldWrites(join(mountpoint.path, files[file].name)).then(done, done);
      },
      beyondEnd: (file) => {
        // It is a repair of what a program did wrong; where it is not possible, nothing else is.
        void setSize(file).catch(() => undefined);
      },
    },
    takeWorker(),
  );
  const prepareFile = async (): Promise<void> => {
    await bridge.ready;
    // Before it knows whose the file is, the kernel takes it for user 0's; where a user namespace has none,
    // it would let nobody write.
    await stat(mountpoint.path);
    if (cacheMode(request) === 'writeback') await setSize(0);
  };
  return new KernelBackend(mount, bridge, mountpoint.kind === 'file' ? prepareFile() : bridge.ready);
}

class KernelBackend implements Backend {
  readonly ready: Promise<void>;
  readonly #mount: KernelMount;
  readonly #bridge: Bridge;

  constructor(mount: KernelMount, bridge: Bridge, ready: Promise<void>) {
    this.#mount = mount;
    this.#bridge = bridge;
    this.ready = ready;
    // Whoever waits hears of a failure; a start that was called off before does not wait.
    ready.catch(() => undefined);
  }

  attach(file: number, connection: number, negotiated: NegotiatedConnection): void {
    this.#bridge.attach(file, connection, negotiated.takeSocket(), negotiated.info);
  }

  fail(file: number, errno: number): void {
    this.#bridge.fail(file, errno);
  }

  status(): ReturnType<Backend['status']> {
    return this.#bridge.status();
  }

  unmount(options: { readonly lazy: boolean }): Promise<void> {
    return this.#mount.unmount(options);
  }

  stop(milliseconds: number): ReturnType<Backend['stop']> {
    return this.#bridge.stop(milliseconds);
  }
}
