// Paths that a process needs later, when it may have left its current directory, or has covered them by its own mount.
//
// One list for the process, since it has one current directory. `keepPath` fills it before the mount; `keptPath` is
// for each later use. A path that the mount covers leads through a descriptor from then on.

import { openSync, realpathSync, statSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { O_PATH } from '../constants/open-flags.js';
import { currentDirectory, pathThrough } from './path.js';
import { isUtf8Path, pathBytes, textOfPath } from './path-text.js';

const kept = new Map<string, string>();

/** The real path of an existing file or directory; undefined if there is none. */
function realPath(path: string): string | undefined {
  try {
    // `realpathSync` itself takes a path for text, and finds another one.
    return textOfPath(realpathSync.native(pathBytes(path), { encoding: 'buffer' }));
  } catch {
    return undefined;
  }
}

/** Whether the mount over `directory` covers an absolute path without symbolic links. */
export function isCovered(path: string, directory: string | undefined): boolean {
  return directory !== undefined && `${path}/`.startsWith(`${directory}/`);
}

function isDirectory(path: string): boolean {
  return statSync(pathBytes(path), { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Keeps a file, which may not exist yet, or a directory. @param covered the directory to mount over */
export function keepPath(path: string, covered: string | undefined): void {
  const whole = isAbsolute(path) ? path : join(currentDirectory(), path);
  const ownDirectory = isDirectory(whole);
  const directory = realPath(ownDirectory ? whole : dirname(whole));
  if (directory === undefined) return;
  const name = ownDirectory ? '' : basename(whole);
  // Node can use such a path only through a descriptor.
  const needsDescriptor = isCovered(directory, covered) || !isUtf8Path(directory);
  const way = needsDescriptor
    ? pathThrough(openSync(pathBytes(directory), O_PATH), name)
    : join(directory, name);
  kept.set(path, way);
  kept.set(whole, way);
}

/** The way to a path: the kept one, or else the path. */
export function keptPath(path: string): string {
  return kept.get(path) ?? path;
}

/** A PATH that finds programs from every directory, and none below `covered`. */
export function keptSearchPath(searchPath: string, covered: string | undefined): string {
  const directories = searchPath.split(delimiter).map((one) => resolve(currentDirectory(), one));
  return directories.filter((one) => !isCovered(realPath(one) ?? one, covered)).join(delimiter);
}
