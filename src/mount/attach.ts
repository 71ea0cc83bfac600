// Making the mount: mount(2) where we may, fusermount3 elsewhere.
//
// Called by the kernel backend once the server is known. Never stats the mountpoint afterwards: that
// would wait for the very file system that this process is about to serve.

import { existsSync } from 'node:fs';
import { EACCES, ENODEV, ENOENT, EPERM, errnoText, SystemError } from '../os/errno.js';
import { mountFuse, openFuseDevice } from '../os/mount.js';
import { closeDescriptor } from '../os/socket.js';
import { detach, unmount } from './detach.js';
import { MountError } from './errors.js';
import { mountByHelper } from './fusermount.js';
import type { Mountpoint } from './mountpoint.js';
import { type FuseOptions, MOUNT_FLAGS } from './options.js';
import { raiseReadAhead } from './read-ahead.js';

const MS_RDONLY = 1;
const NOSUID_NODEV = 2 | 4;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

/** KiB that the kernel reads ahead, where we may say so. */
const READ_AHEAD = 8192;

/** A mount of ours. */
export interface KernelMount {
  /** The /dev/fuse descriptor, non-blocking; it belongs to the caller. */
  readonly device: number;
  /** @throws MountError, with errno EBUSY when the mount is in use and not to be taken away lazily */
  unmount(options: { readonly lazy: boolean }): Promise<void>;
}

/** The options that the kernel's fuse takes, without the descriptor and its company. */
function kernelOptions(options: FuseOptions): string[] {
  const words = ['default_permissions'];
  if (options.allowOther || options.allowRoot) words.push('allow_other');
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
  if (options.autoUnmount) words.push('auto_unmount');
  return words;
}

/** Whether the helper may succeed where mount(2) did not. */
function helperMayHelp(error: unknown): boolean {
  return error instanceof SystemError && (error.errno === EPERM || error.errno === EACCES);
}

function explain(error: unknown, mountpoint: Mountpoint): MountError {
  if (!(error instanceof SystemError)) return new MountError(String(error));
  if (error.syscall === 'open') {
    const missing = error.errno === ENOENT || error.errno === ENODEV;
    const next = missing ? 'load the module: modprobe fuse' : 'this user may not open it';
    return new MountError(`opening /dev/fuse: ${errnoText(error.errno)}; ${next}`, error.errno);
  }
  return new MountError(`mounting ${mountpoint.text}: ${errnoText(error.errno)}`, error.errno);
}

/** Mounts, as root or not. @throws MountError */
export async function mountKernel(mountpoint: Mountpoint, options: FuseOptions): Promise<KernelMount> {
  let device: number | undefined;
  let leash: number | undefined;
  // With auto_unmount somebody else must hold the mount, which is the helper's office.
  if (!options.autoUnmount) {
    try {
      device = mountDirectly(mountpoint, options);
    } catch (error) {
      if (process.geteuid?.() === 0 || !(helperMayHelp(error) || !existsSync('/dev/fuse'))) {
        throw explain(error, mountpoint);
      }
    }
  }
  if (device === undefined) {
    if (!existsSync('/dev/fuse')) {
      throw new MountError('opening /dev/fuse: there is no such device; load the module: modprobe fuse');
    }
    ({ device, leash } = await mountByHelper(mountpoint, helperOptions(options), options.autoUnmount));
  }
  if (options.maxReadahead === undefined) void raiseReadAhead(mountpoint.path, READ_AHEAD);
  return new Mount(mountpoint.path, device, leash);
}

class Mount implements KernelMount {
  readonly device: number;
  readonly #path: string;
  #leash: number | undefined;

  constructor(path: string, device: number, leash: number | undefined) {
    this.#path = path;
    this.device = device;
    this.#leash = leash;
  }

  async unmount(options: { readonly lazy: boolean }): Promise<void> {
    await (options.lazy ? detach(this.#path) : unmount(this.#path));
    if (this.#leash !== undefined) closeDescriptor(this.#leash);
    this.#leash = undefined;
  }
}
