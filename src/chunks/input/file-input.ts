// A local file as input.

import { open } from 'node:fs/promises';
import { EIO } from '../../constants/errno.js';
import type { Input } from '../contract/coding.js';

/** Reads at the same time: those of one fast disk, or of a file system over a network. */
const PARALLEL = 8;

/** The bytes of a file ended before its size: somebody has cut it. */
function shorter(path: string): Error {
  return Object.assign(new Error(`${path} has become shorter`), { errno: EIO });
}

/** Opens a file. @throws Node's errors */
export async function openFileInput(path: string): Promise<Input> {
  const handle = await open(path, 'r');
  const { size } = await handle.stat();
  async function read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw shorter(path);
      done += bytesRead;
    }
    return bytes;
  }
  return { size, parallel: PARALLEL, read, close: () => handle.close() };
}
