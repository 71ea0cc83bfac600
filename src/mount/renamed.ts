// Finds the mounts of nbdfuse that do not have the type fuse.nbdfuse, because of -o subtype=, by the running processes.
//
// Used by --list-mounts. The user chooses the type and the source of a mount, but not its device. Before Linux 6.16 a
// process does not show the devices that it serves; there, the type must be one that its command line names.

import { servedDevices } from '../linux/path.js';
import { pids, runningProcess } from '../linux/process.js';
import { deviceNumber, isFuse, type MountEntry, OWN_TYPE } from './mount-table.js';

/** A running nbdfuse, and the mounts that it may serve. */
interface Service {
  readonly userId: number;
  readonly devices: readonly number[];
  /** In its command line; with the devices unknown. */
  readonly types: readonly string[];
}

/** The types that a command line names, also one that was overwritten to hide a password. Pure. */
export function typesIn(words: readonly string[]): readonly string[] {
  const found = words.join(' ').matchAll(/(?:[ ,]|-o)subtype=([^, ]+)/g);
  return [...found].map(([, name]) => `fuse.${name}`);
}

function serviceOf(pid: number): Service | undefined {
  const found = runningProcess(pid);
  if (found === undefined || !found.words.some((word) => /nbdfuse/.test(word))) return undefined;
  return { userId: found.userId, devices: servedDevices(pid), types: typesIn(found.words) };
}

function serves({ userId, devices, types }: Service, entry: MountEntry): boolean {
  if (entry.userId !== userId) return false;
  return devices.length > 0 ? devices.includes(deviceNumber(entry)) : types.includes(entry.type);
}

/** The mounts of `table` with another type. Accesses no mount. */
export function renamedMounts(table: readonly MountEntry[]): readonly MountEntry[] {
  const others = table.filter((entry) => isFuse(entry) && entry.type !== OWN_TYPE);
  if (others.length === 0) return [];
  const services = pids()
    .map(serviceOf)
    .filter((one) => one !== undefined);
  return others.filter((entry) => services.some((one) => serves(one, entry)));
}
