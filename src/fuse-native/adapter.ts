// The second backend: libfuse 2 through the package fuse-native, data through the Promise client.
//
// Used by the session instead of the bridge. It serves from the main thread, a request at a time in
// JavaScript but any number under way. docs/internals/decisions/0002-fuse-protocol.md lists
// what it cannot do.

import { readdir, readlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Tree, type TreeOptions } from '../fuse/tree.js';
import { closeOnExec, keepOnExec } from '../linux/descriptor.js';
import { loadLibrary } from '../linux/libc.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { DiskIo } from './disk-io.js';
import { makeOperations } from './operations.js';

/** A file to serve. */
export interface NativeFile {
  readonly name: string;
  readonly readOnly: boolean;
  readonly info: ExportInfo;
}

/** How to mount. */
export interface NativeOptions {
  /** A path of an existing directory, and the descriptor that it goes through, which libfuse's helper needs as well. */
  readonly path: string;
  readonly folder: number;
  readonly files: readonly NativeFile[];
  readonly tree: TreeOptions;
  readonly allowOther: boolean;
  readonly allowRoot: boolean;
  readonly autoUnmount: boolean;
  readonly autoCache: boolean;
  readonly fsname: string;
  readonly subtype: string;
  readonly debug: boolean;
}

const NOT_INSTALLED =
  'the package fuse-native is not installed; apt-get install libfuse2, and reinstall nbdfuse';

/** Bytes of one WRITE: what libfuse 2 can take. */
const MAX_WRITE = 131_072;

/** A file system that fuse-native serves. */
export class NativeFileSystem {
  /** A /dev/fuse descriptor, which is libfuse's. */
  readonly device: number;
  readonly #disks: DiskIo[];

  private constructor(disks: DiskIo[], device: number) {
    this.#disks = disks;
    this.device = device;
  }

  /**
   * Mounts, and resolves when the file system is there.
   * @param lost is told of each file whose connection has ended
   * @throws Error when libfuse cannot be loaded, or refuses
   */
  static async mount(
    options: NativeOptions,
    lost: (file: number, why: string) => void,
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
    const disks = options.files.map(({ info }, i) => new DiskIo(info, (why) => lost(i, why)));
    const byNode = new Map(tree.files().map((node, i) => [node.nodeid, disks[i]]));
    const readOnly = options.files.every((file) => file.readOnly);
    const fuse = new Fuse(options.path, makeOperations(tree, byNode), {
      // A slow server is not an error: its time is limited elsewhere.
      timeout: false,
      debug: options.debug,
      allowOther: options.allowOther,
      allowRoot: options.allowRoot,
      autoUnmount: options.autoUnmount,
      defaultPermissions: true,
      autoCache: options.autoCache,
      kernelCache: !options.autoCache,
      // The package has no words for these options, but hands this string on as it is.
      fsname: `${options.fsname},big_writes,max_write=${MAX_WRITE}${readOnly ? ',ro' : ''}`,
      subtype: options.subtype,
    });
    keepOnExec(options.folder);
    await new Promise<void>((resolve, reject) => {
      fuse.mount((error) => (error === null ? resolve() : reject(error)));
    });
    closeOnExec(options.folder);
    return new NativeFileSystem(disks, await keepFromChildren());
  }

  /** Gives a file a connection. */
  attach(file: number, connection: NegotiatedConnection): void {
    this.#disks[file].attach(connection);
  }

  /** Until the next `attach`, requests of this file that would wait fail with `errno`. */
  fail(file: number, errno: number): void {
    this.#disks[file].fail(errno);
  }

  /** Flushes and disconnects. @throws IoError when a server could not flush */
  async close(): Promise<void> {
    try {
      for (const disk of this.#disks) await disk.flush();
    } finally {
      await Promise.all(this.#disks.map((disk) => disk.close()));
    }
  }
}

/**
 * Closes libfuse's descriptor in programs that we run. It does not do so by itself; and a child that waits
 * for this file system would keep it alive when we are gone, and then wait for ever. Returns it.
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
 * Loads the package, after the libfuse that comes with it, which its binary does not find by itself.
 * @throws Error when it is not installed: npm leaves it out where it cannot be built
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
