// A VHDX as a crash leaves it: its log has entries, and its headers name the log.

import { editImage } from './partitions.js';
import { tryProgram } from './run/command.js';

/** Bytes at which the two headers and the log of QEMU's images are. */
const HEADERS = [65_536, 131_072];
const HEADER_LENGTH = 4096;
const LOG = 1024 * 1024;

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f63b78;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** Makes QEMU believe that it must replay the log of an image that `qemu-img convert` has just made. */
export async function requireReplay(path: string): Promise<void> {
  await editImage(path, async (handle) => {
    const { buffer: log } = await handle.read(Buffer.alloc(48), 0, 48, LOG);
    for (const place of HEADERS) {
      const { buffer: header } = await handle.read(Buffer.alloc(HEADER_LENGTH), 0, HEADER_LENGTH, place);
      log.copy(header, 48, 32, 48);
      header.writeUInt32LE(0, 4);
      header.writeUInt32LE(crc32c(header), 4);
      await handle.write(header, 0, HEADER_LENGTH, place);
    }
  });
  const { stderr } = await tryProgram('qemu-io', '-r', '-f', 'vhdx', '-c', 'read 0 1', path);
  if (!stderr.includes('needs to be replayed')) throw new Error(`no replay: ${stderr}`);
}
