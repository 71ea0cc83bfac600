// Images and keys that tests and tools serve, made by qemu-img and psktool.

import { execFileSync } from 'node:child_process';
import { requireProgram } from './requires.js';

/**
 * Makes a qcow2 image and returns its path. @param size as qemu-img takes it: `4M`; undefined: that of the backing file
 * @param words more of qemu-img's: `-b FILE -F FORMAT`, `-o SETTINGS`
 */
export function createQcow2(path: string, size: string | undefined, ...words: readonly string[]): string {
  const sizes = size === undefined ? [] : [size];
  execFileSync(requireProgram('qemu-img'), ['create', '-q', '-f', 'qcow2', ...words, path, ...sizes]);
  return path;
}

/** Makes a file with the pre-shared key of one user and returns its path. */
export function createPsk(path: string, user = 'alice'): string {
  execFileSync(requireProgram('psktool'), ['-u', user, '-p', path], { stdio: 'ignore' });
  return path;
}
