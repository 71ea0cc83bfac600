// The default backend: the kernel's FUSE device, served by the bridge's worker.
//
// Made by session.ts. Owns the mount; the worker owns the device and the connections.

import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { Bridge, type BridgeOptions } from '../bridge/bridge.js';
import { type KernelMount, mountKernel } from '../mount/attach.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Backend, BackendRequest } from './backend.js';

/** Bytes of written data that are remembered until the server has flushed them. */
const KEEP_BYTES = 64 * 1024 * 1024;

function bridgeOptions(request: BackendRequest, device: number): BridgeOptions {
  const { settings, options, mountpoint, files } = request;
  return {
    device,
    files,
    naked: mountpoint.kind === 'file',
    tree: {
      uid: options.uid ?? process.getuid?.() ?? 0,
      gid: options.gid ?? process.getgid?.() ?? 0,
      umask: options.umask ?? process.umask(),
      now: Date.now(),
    },
    cache: options.directIo ? 'none' : settings.cache,
    verbose: settings.verbose,
    keepBytes: request.reconnectable ? KEEP_BYTES : 0,
    timeout: settings.timeoutMs,
    asyncRead: options.asyncRead,
    maxBackground: options.maxBackground,
    congestionThreshold: options.congestionThreshold,
    maxReadahead: options.maxReadahead,
    attributeTimeout: options.attributeTimeout,
    entryTimeout: options.entryTimeout,
    negativeTimeout: options.negativeTimeout,
    dropPagesOnOpen: options.autoCache,
  };
}

/** Mounts and starts the worker. @throws MountError */
export async function startKernelBackend(request: BackendRequest): Promise<Backend> {
  const { mountpoint, options, files, events } = request;
  const readOnly = files.every((file) => file.readOnly);
  const mount = await mountKernel(mountpoint, { ...options, readOnly });
  const paths = files.map((file) => join(mountpoint.path, file.name));
  const bridge = Bridge.start(bridgeOptions(request, mount.device), {
    ...events,
    lost: (...loss) => events.lost(...loss),
    beyondEnd: (file) => {
      // Only a truncate(2) sets the kernel's idea of the size right; its failure changes nothing.
      void truncate(paths[file], Number(files[file].info.size)).catch(() => undefined);
    },
  });
  return new KernelBackend(mount, bridge);
}

class KernelBackend implements Backend {
  readonly #mount: KernelMount;
  readonly #bridge: Bridge;

  constructor(mount: KernelMount, bridge: Bridge) {
    this.#mount = mount;
    this.#bridge = bridge;
  }

  get ready(): Promise<void> {
    return this.#bridge.ready;
  }

  attach(file: number, connection: number, negotiated: NegotiatedConnection): void {
    this.#bridge.attach(file, connection, negotiated.takeDescriptor(), negotiated.info);
  }

  fail(file: number, errno: number): void {
    this.#bridge.fail(file, errno);
  }

  unmount(options: { readonly lazy: boolean }): Promise<void> {
    return this.#mount.unmount(options);
  }

  stop(milliseconds: number): ReturnType<Backend['stop']> {
    return this.#bridge.stop(milliseconds);
  }
}
