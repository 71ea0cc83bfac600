// The other places of a mounted file system: in this mount namespace, and in those of other processes.
//
// Used by --unmount, and by a session that a signal stops. A container or a service with a mount namespace of its own
// gets copies of all mounts. The file system lasts as long as its last mount: nbdfuse serves it until then, and the
// kernel keeps what programs have written.

import { readFileSync, readlinkSync } from 'node:fs';
import { mountIdOf, openPath } from '../linux/path.js';
import { pids } from '../linux/process.js';
import { closeDescriptor } from '../linux/socket.js';
import { MountError } from './errors.js';
import { type MountEntry, readMountTable } from './mount-table.js';

/** Milliseconds that a search may take. */
const PATIENCE = 500;

/** See the file's head. */
export interface OtherPlace {
  /** Of the mount, in all namespaces. */
  readonly id: number;
  /** As the process sees it. */
  readonly path: string;
  /** A process of the other mount namespace; undefined: the place is in ours. */
  readonly process: { readonly pid: number; readonly name: string } | undefined;
}

/** The mounts that a process sees, unless another one sees the same; none if it has ended or belongs to somebody else. */
function newTable(pid: number, seen: Set<string>): readonly MountEntry[] {
  try {
    const view = `${readlinkSync(`/proc/${pid}/ns/mnt`)} ${readlinkSync(`/proc/${pid}/root`)}`;
    if (seen.has(view)) return [];
    seen.add(view);
    return readMountTable(pid);
  } catch {
    return [];
  }
}

/** The name of a process; empty if it has ended. */
function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd();
  } catch {
    return '';
  }
}

/** The other places of the file system of a mount that is served, as far as this user may see them. */
export function findPlaces(mount: MountEntry): readonly OtherPlace[] {
  const deadline = performance.now() + PATIENCE;
  const seen = new Set<string>();
  const places: OtherPlace[] = [];
  for (const pid of [process.pid, ...pids()]) {
    if (performance.now() > deadline) break;
    for (const { id, path, device, type } of newTable(pid, seen)) {
      if (device !== mount.device || type !== mount.type || id === mount.id) continue;
      places.push({ id, path, process: pid === process.pid ? undefined : { pid, name: nameOf(pid) } });
    }
  }
  return places;
}

/** The other places of the file system of a mount that may have ended, as far as this user may see them. */
export class OtherPlaces {
  readonly #mount: MountEntry;
  readonly #found: readonly OtherPlace[];

  /** Searches while the mount is there. */
  constructor(mount: MountEntry) {
    this.#mount = mount;
    this.#found = findPlaces(mount);
  }

  /** Those that are left after an unmount, when the kernel may have given the device number to a new mount. */
  left(): readonly OtherPlace[] {
    if (this.#found.length === 0) return [];
    const isOne = ({ id, path }: OtherPlace): boolean =>
      this.#found.some((one) => one.id === id && one.path === path);
    return findPlaces(this.#mount).filter(isOne);
  }
}

/**
 * An O_PATH descriptor of a file at another place, verified to be in that mount; it belongs to the caller.
 * @param name of the file in the root of the mount; empty: the root itself
 * @throws Error
 */
export async function openAt({ id, path, process }: OtherPlace, name: string): Promise<number> {
  const root = process === undefined ? path : `/proc/${process.pid}/root${path}`;
  const descriptor = await openPath(name === '' ? root : `${root}/${name}`, { follow: false });
  if (mountIdOf(descriptor) === id) return descriptor;
  closeDescriptor(descriptor);
  throw new MountError(`${path}: something else is mounted there`);
}
