// The second backend: libfuse 2 through the package fuse-native, with data through the Promise client.
//
// The session uses it instead of the worker. It runs in the main thread, with any number of requests in flight.
// docs/internals/decisions/0002-fuse-protocol.md lists its limitations.

import { readdir, readlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { Loss } from '../client/connection-pool.js';
import { Tree, type TreeOptions } from '../fuse/tree.js';
import { closeOnExec, keepOnExec } from '../linux/descriptor.js';
import { loadLibrary } from '../linux/libc.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { DiskIo } from './disk-io.js';
import { makeOperations } from './operations.js';

/** A file. */
export interface NativeFile {
  readonly name: string;
  readonly readOnly: boolean;
  readonly info: ExportInfo;
}

/** Mount options. */
export interface NativeOptions {
  /** A path of an existing directory, and the descriptor in that path, which libfuse's helper needs as well. */
  readonly path: string;
  readonly directory: number;
  readonly files: readonly NativeFile[];
  readonly tree: TreeOptions;
  readonly allowOther: boolean;
  readonly allowRoot: boolean;
  readonly autoUnmount: boolean;
  readonly autoCache: boolean;
  readonly fsname: string;
  readonly subtype: string;
  readonly debug: boolean;
  /** Milliseconds after a loss in which a server has made or dropped its changes; or Infinity. */
  readonly settleTime: number;
}

const NOT_INSTALLED =
  'the package fuse-native is not installed; apt-get install libfuse2, and install nbdfuse with npm (the Debian package never contains fuse-native)';

/** Largest WRITE of libfuse 2 in bytes. */
const MAX_WRITE = 131_072;

/** A file system served through fuse-native. */
export class NativeFileSystem {
  /** libfuse's /dev/fuse descriptor. */
  readonly device: number;
  readonly #disks: DiskIo[];

  private constructor(disks: DiskIo[], device: number) {
    this.#disks = disks;
    this.device = device;
  }

  /**
   * Mounts. Resolves when the file system is mounted.
   * @param lost is called with each file whose connection has ended
   * @throws Error if libfuse cannot be loaded or fails
   */
  static async mount(
    options: NativeOptions,
    lost: (file: number, loss: Loss) => void,
  ): Promise<NativeFileSystem> {
    const Fuse = await loadFuseNative();
    const tree = new Tree(
      options.files.map(({ name, readOnly, info }) => ({
        name,
        readOnly,
        size: info.size,
        blockSize: info.blockSizes?.preferred ?? 4096,
      })),
      false,
      options.tree,
    );
    const { settleTime } = options;
    const disks = options.files.map(
      ({ info }, i) => new DiskIo(info, { settleTime, lost: (loss) => lost(i, loss) }),
    );
    const byNode = new Map(tree.files().map((node, i) => [node.nodeid, disks[i]]));
    const readOnly = options.files.every((file) => file.readOnly);
    const fuse = new Fuse(options.path, makeOperations(tree, byNode), {
      // fuse-native must not time out: a slow server is no error, and the session has its own timeout.
      timeout: false,
      debug: options.debug,
      allowOther: options.allowOther,
      allowRoot: options.allowRoot,
      autoUnmount: options.autoUnmount,
      defaultPermissions: true,
      autoCache: options.autoCache,
      kernelCache: !options.autoCache,
      // The package has no fields for these options, but passes this string on unchanged.
      fsname: `${options.fsname},big_writes,max_write=${MAX_WRITE}${readOnly ? ',ro' : ''}`,
      subtype: options.subtype,
    });
    keepOnExec(options.directory);
    await new Promise<void>((resolve, reject) => {
      fuse.mount((error) => (error === null ? resolve() : reject(error)));
    });
    closeOnExec(options.directory);
    return new NativeFileSystem(disks, await keepFromChildren());
  }

  /** Sets the connection of a file. */
  attach(file: number, connection: NegotiatedConnection): void {
    this.#disks[file].attach(connection);
  }

  /** Fails with `errno` all requests of a file that would wait for a connection, until the next `attach`. */
  fail(file: number, errno: number): void {
    this.#disks[file].fail(errno);
  }

  /** Returns a function to call when the server of the lost connections of a file has ended. */
  whenServerEnds(file: number): () => void {
    return this.#disks[file].whenServerEnds();
  }

  /** Flushes and disconnects. @throws IoError if a server could not flush */
  async close(): Promise<void> {
    try {
      for (const disk of this.#disks) await disk.flush();
    } finally {
      await Promise.all(this.#disks.map((disk) => disk.close()));
    }
  }
}

/**
 * Sets close-on-exec on libfuse's descriptor, which libfuse does not do, and returns the descriptor. A child that waits
 * for this file system would otherwise keep it alive after our end, and wait for ever.
 */
async function keepFromChildren(): Promise<number> {
  let device = -1;
  for (const name of await readdir('/proc/self/fd')) {
    const target = await readlink(`/proc/self/fd/${name}`).catch(() => undefined);
    if (target !== '/dev/fuse') continue;
    device = Number(name);
    closeOnExec(device);
  }
  return device;
}

/**
 * Loads the package, after the libfuse that it contains, as its binary does not find that itself.
 * @throws Error if it is not installed: npm omits it where it cannot be built
 */
async function loadFuseNative(): Promise<typeof import('fuse-native').default> {
  const require = createRequire(import.meta.url);
  let path: string;
  try {
    path = require.resolve('fuse-native');
  } catch {
    throw new Error(NOT_INSTALLED);
  }
  const shared: { lib: string } = createRequire(path)('fuse-shared-library');
  loadLibrary(shared.lib);
  return (await import('fuse-native')).default;
}
