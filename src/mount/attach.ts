// Making the mount: mount(2) where we may, fusermount3 elsewhere.
//
// Called by the kernel backend once the server is known. Never stats the mountpoint afterwards: that
// would wait for the very file system that this process is about to serve.

import { EACCES, EBUSY, ENODEV, ENOENT, ENXIO, EPERM, errnoText, SystemError } from '../os/errno.js';
import { mountFuse, openFuseDevice } from '../os/mount.js';
import { closeDescriptor } from '../os/socket.js';
import { type Guard, guardMount } from './auto-unmount.js';
import { detach, unmount } from './detach.js';
import { MountError } from './errors.js';
import { mountByHelper } from './fusermount.js';
import { allowHeldWrites, raiseReadAhead } from './kernel-limits.js';
import { findMount, type MountEntry, readMountTable } from './mount-table.js';
import type { Mountpoint } from './mountpoint.js';
import { type FuseOptions, MOUNT_FLAGS } from './option-table.js';

/** Percent of the memory for waiting writes that one mount may take, where we may say so. */
const HELD_WRITES = 8;

const MS_RDONLY = 1;
const NOSUID_NODEV = 2 | 4;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

/** Bytes that the kernel reads ahead, where we may say so: what of it is still in the processor's cache when it is read. */
const READ_AHEAD = 512 * 1024;

const isRoot = (): boolean => process.geteuid?.() === 0;

/** A mount of ours. */
export interface KernelMount {
  /** The /dev/fuse descriptor, non-blocking; it belongs to the caller. */
  readonly device: number;
  /**
   * Unmounts, or does nothing when somebody else has. Lazily: takes it out of the tree at once, and it
   * ends with its last user. @throws MountError, with errno EBUSY when the mount is in use
   */
  unmount(options: { readonly lazy: boolean }): Promise<void>;
}

/** The options that the kernel's fuse takes, without the descriptor and its company. */
function kernelOptions(options: FuseOptions): string[] {
  const words = ['default_permissions'];
  // allow_root is allow_other with permissions for the owner alone (see options.ts), which root passes.
  if (options.allowOther || (options.allowRoot && !isRoot())) words.push('allow_other');
  if (options.maxRead !== undefined) words.push(`max_read=${options.maxRead}`);
  return words;
}

function mountFlags(options: FuseOptions): number {
  let flags = NOSUID_NODEV;
  for (const name of options.mountFlags) {
    const { bit, set } = MOUNT_FLAGS[name];
    flags = set ? flags | bit : flags & ~bit;
  }
  return options.readOnly ? flags | MS_RDONLY : flags;
}

function mountDirectly(mountpoint: Mountpoint, options: FuseOptions): number {
  const device = openFuseDevice();
  const rootmode = mountpoint.kind === 'file' ? S_IFREG : S_IFDIR;
  const data = [
    `fd=${device}`,
    `rootmode=${rootmode.toString(8)}`,
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    ...kernelOptions(options),
  ].join(',');
  const type = `fuse.${options.subtype ?? 'nbdfuse'}`;
  try {
    mountFuse(options.fsname ?? 'nbdfuse', mountpoint.path, type, mountFlags(options), data);
    return device;
  } catch (error) {
    closeDescriptor(device);
    throw error;
  }
}

function helperOptions(options: FuseOptions): string[] {
  const escaped = (text: string): string => text.replace(/[\\,]/g, '\\$&');
  const words = [
    `fsname=${escaped(options.fsname ?? 'nbdfuse')}`,
    `subtype=${escaped(options.subtype ?? 'nbdfuse')}`,
    ...kernelOptions(options),
    ...options.mountFlags,
  ];
  if (options.readOnly) words.push('ro');
  return words;
}

function explain(error: SystemError, mountpoint: Mountpoint): MountError {
  const why = errnoText(error.errno);
  if (error.syscall !== 'open') {
    const next = error.errno === EPERM ? '; in a container, that needs the capability SYS_ADMIN' : '';
    return new MountError(`mounting ${mountpoint.text}: ${why}${next}`, error.errno);
  }
  const missing = [ENOENT, ENODEV, ENXIO].includes(error.errno);
  const next = missing ? 'load the module: modprobe fuse' : 'in a container, it must be given to that';
  return new MountError(`opening /dev/fuse: ${why}; ${next}`, error.errno);
}

/** Mounts by mount(2), or else by the helper. */
async function mountSomehow(mountpoint: Mountpoint, options: FuseOptions): Promise<number> {
  try {
    return mountDirectly(mountpoint, options);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (error.errno !== EPERM && error.errno !== EACCES) throw explain(error, mountpoint);
    try {
      return await mountByHelper(mountpoint, helperOptions(options));
    } catch (failure) {
      // The helper can do no more than root: what the kernel told root is what matters.
      throw isRoot() ? explain(error, mountpoint) : failure;
    }
  }
}

/** Mounts, as root or not. @throws MountError */
export async function mountKernel(mountpoint: Mountpoint, options: FuseOptions): Promise<KernelMount> {
  const device = await mountSomehow(mountpoint, options);
  try {
    const entry = findMount(mountpoint.path);
    if (entry === undefined)
      throw new MountError(`mounting ${mountpoint.text}: somebody unmounted it at once`);
    const guard = options.autoUnmount ? await guardMount(entry) : undefined;
    void allowHeldWrites(entry.device, HELD_WRITES);
    void raiseReadAhead(entry.device, options.maxReadahead ?? READ_AHEAD);
    return new Mount(entry, device, guard);
  } catch (error) {
    await detach(mountpoint.path).catch(() => undefined);
    closeDescriptor(device);
    throw error;
  }
}

class Mount implements KernelMount {
  readonly device: number;
  readonly #entry: MountEntry;
  #guard: Guard | undefined;

  constructor(entry: MountEntry, device: number, guard: Guard | undefined) {
    this.#entry = entry;
    this.device = device;
    this.#guard = guard;
  }

  async unmount(options: { readonly lazy: boolean }): Promise<void> {
    const path = this.#findPath();
    if (path !== undefined) await (options.lazy ? detach(path) : unmount(path));
    const guard = this.#guard;
    this.#guard = undefined;
    await guard?.release();
  }

  /** Where the mount is now: it may have been moved, covered by another, or unmounted. */
  #findPath(): string | undefined {
    const { id, device, type } = this.#entry;
    const table = readMountTable();
    const own = table.find((entry) => entry.id === id && entry.device === device && entry.type === type);
    if (own === undefined) return undefined;
    const top = table.findLast((entry) => entry.path === own.path);
    if (top?.id === id) return own.path;
    throw new MountError(`unmounting ${own.path}: another mount lies over it; unmount that first`, EBUSY);
  }
}
