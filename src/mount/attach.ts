// Makes the mount: with mount(2) where permitted, else with fusermount3.
//
// Called by the kernel backend once the server is known. Never stats the mountpoint afterwards: stat(2) would wait for
// the file system that this process is about to serve.

import { EACCES, ENODEV, ENOENT, ENXIO, EPERM } from '../constants/errno.js';
import { S_IFDIR, S_IFREG } from '../constants/file-mode.js';
import { errnoText, SystemError } from '../linux/errno.js';
import { mountFuse, openFuseDevice } from '../linux/mount.js';
import { mountIdOf, openPath, pathThrough, servedDevice } from '../linux/path.js';
import { hasErrors } from '../linux/poll.js';
import { closeDescriptor } from '../linux/socket.js';
import { type Guard, guardMount } from './auto-unmount.js';
import { detach, unmount } from './detach.js';
import { MountError } from './errors.js';
import { mountByHelper } from './fusermount.js';
import { raiseDirtyLimit, raiseReadAhead } from './kernel-limits.js';
import { deviceNumber, findAgain, type MountEntry, mountOf, readMountTable } from './mount-table.js';
import type { Mountpoint } from './mountpoint.js';
import { type FuseOptions, MOUNT_FLAGS } from './option-table.js';
import { findPlaces, type OtherPlace } from './other-places.js';
import { atPlace } from './place.js';
import { registerForUmount } from './umount-helper.js';

/** Percent of the system's dirty page limit that one mount may use, where we may set it. */
const DIRTY_LIMIT_PERCENT = 8;

const MS_RDONLY = 1;
const NOSUID_NODEV = 2 | 4;

/** Bytes of the kernel's read-ahead, where we may set it: few enough to be read from the processor's cache. */
const READ_AHEAD = 512 * 1024;

const isRoot = (): boolean => process.geteuid?.() === 0;

/** A mount of ours. */
export interface KernelMount {
  /** The /dev/fuse descriptor, non-blocking; it belongs to the caller. */
  readonly device: number;
  /**
   * An O_PATH descriptor of a file that is verified to be in this mount: its root, where `name` is empty, or the file
   * of that name in it. It belongs to the caller, and keeps the mount busy. @throws MountError
   */
  open(name: string): Promise<number>;
  /** The other places of the mount; none when the file system has ended. */
  otherPlaces(): readonly OtherPlace[];
  /** Lets umount(8) wait for the server, where its helper is installed. The mount must be served. Never rejects. */
  register(): Promise<void>;
  /**
   * Unmounts, or does nothing when the mount is gone. Lazy: detaches it from the tree at once, and it ends with its
   * last user. @throws MountError, with errno EBUSY when the mount is in use
   */
  unmount(options: { readonly lazy: boolean }): Promise<void>;
}

/** The mount options of the kernel's fuse, without fd, rootmode, user_id and group_id. */
function kernelOptions(options: FuseOptions): string[] {
  const words = ['default_permissions'];
  // allow_root is allow_other with permissions for the owner alone (see options.ts), which root passes.
  if (options.allowOther || (options.allowRoot && !isRoot())) words.push('allow_other');
  if (options.maxRead !== undefined) words.push(`max_read=${options.maxRead}`);
  return words;
}

function typeOf({ subtype = 'nbdfuse' }: FuseOptions): string {
  return `fuse.${subtype}`;
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
  const where = pathThrough(mountpoint.target.descriptor);
  try {
    mountFuse(options.fsname ?? 'nbdfuse', where, typeOf(options), mountFlags(options), data);
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
    const next = error.errno === EPERM ? '; in a container, this needs the capability SYS_ADMIN' : '';
    return new MountError(`cannot mount ${mountpoint.text}: ${why}${next}`, error.errno);
  }
  const missing = [ENOENT, ENODEV, ENXIO].includes(error.errno);
  const next = missing
    ? 'load the module: modprobe fuse'
    : 'in a container, pass the device in: --device /dev/fuse';
  return new MountError(`cannot open /dev/fuse: ${why}; ${next}`, error.errno);
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
      // The helper can do no more than root, so the kernel's answer to root is the reason.
      throw isRoot() ? explain(error, mountpoint) : failure;
    }
  }
}

/** The mounts that a /dev/fuse descriptor serves; undefined before Linux 6.16, which does not show them. */
function servedBy(device: number): readonly MountEntry[] | undefined {
  const served = servedDevice(device);
  if (served === undefined) return undefined;
  return readMountTable().filter((entry) => deviceNumber(entry) === served);
}

/**
 * Finds the new mount, which must be visible at the mountpoint. Detaches the mounts of `device` elsewhere.
 * @throws MountError
 */
export async function findNewMount(
  { target, text }: Mountpoint,
  options: FuseOptions,
  device: number,
): Promise<MountEntry> {
  const id = await target.place.mountId();
  const entry = id === undefined || id === mountIdOf(target.descriptor) ? undefined : mountOf(id);
  const served = servedBy(device);
  const isOurs = served === undefined || served.some((one) => one.id === id);
  if (entry?.type === typeOf(options) && isOurs) return entry;
  for (const stray of served ?? []) await detach(stray).catch(() => undefined);
  const why = 'the new mount was removed or replaced at once';
  throw new MountError(`cannot mount ${text}: ${why}; use a directory that only you can change`);
}

/** Mounts, as root or not. @throws MountError */
export async function mountKernel(mountpoint: Mountpoint, options: FuseOptions): Promise<KernelMount> {
  await mountpoint.target.check();
  const device = await mountSomehow(mountpoint, options);
  try {
    const entry = await findNewMount(mountpoint, options, device);
    const guard = await guardUnlessRefused(entry, options);
    void raiseDirtyLimit(entry.device, DIRTY_LIMIT_PERCENT);
    void raiseReadAhead(entry.device, options.maxReadahead ?? READ_AHEAD);
    return new Mount(entry, device, guard);
  } catch (error) {
    closeDescriptor(device);
    throw error;
  }
}

async function guardUnlessRefused(entry: MountEntry, options: FuseOptions): Promise<Guard | undefined> {
  try {
    return options.autoUnmount ? await guardMount(entry) : undefined;
  } catch (error) {
    await detach(entry).catch(() => undefined);
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

  open(name: string): Promise<number> {
    return openInMount(this.#entry, name);
  }

  otherPlaces(): readonly OtherPlace[] {
    // After its end the kernel may give the device number to another mount.
    return hasErrors(this.device) ? [] : findPlaces(this.#entry);
  }

  async register(): Promise<void> {
    if (isRoot()) await registerForUmount(this.#entry);
  }

  async unmount(options: { readonly lazy: boolean }): Promise<void> {
    await (options.lazy ? detach(this.#entry) : unmount(this.#entry));
    const guard = this.#guard;
    this.#guard = undefined;
    await guard?.release();
  }
}

/** See KernelMount.open. While the mount is served, no other mount has both its number and its device. */
export async function openInMount(mount: MountEntry, name: string): Promise<number> {
  const now = findAgain(mount);
  if (now === undefined) throw new MountError(`${mount.path} is no longer mounted`);
  const path = (root: string): string => (name === '' ? root : `${root}/${name}`);
  const descriptor = await atPlace(now.path, (place) => openPath(path(place.path), { follow: false }));
  if (mountIdOf(descriptor) === mount.id) return descriptor;
  closeDescriptor(descriptor);
  throw new MountError(`${path(now.path)}: something else is mounted there`);
}
