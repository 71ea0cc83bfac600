// Encrypted images: LUKS, and qcow2 with LUKS or AES inside. Pure.
//
// QEMU reads the key from its file itself (`--object secret`), so that no command line and no message has it.

import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';
import type { ImageFormat } from './formats.js';

/** QEMU's name for the key. */
const KEY = 'key0';

/** The offset of a qcow2's method, and the names of the methods. */
const QCOW2_METHOD = 32;
const METHODS = ['none', 'aes', 'luks'] as const;

/** The options of a block node that decrypts, as QEMU has them; undefined: the image is not encrypted. */
export type Decryption = Readonly<Record<string, string>>;

const LUKS_MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');

/** Whether a disk begins like one that is encrypted as a whole. */
function isLuks(head: Buffer): boolean {
  return head.subarray(0, LUKS_MAGIC.length).equals(LUKS_MAGIC);
}

/** How an image of a format (QEMU's name), which begins with `head`, is decrypted. */
export function decryptionOf(format: string, head: Buffer): Decryption | undefined {
  if (format === 'luks') return { 'key-secret': KEY };
  if (format !== 'qcow2' || head.length < QCOW2_METHOD + 4) return undefined;
  const method = METHODS[head.readUInt32BE(QCOW2_METHOD)];
  if (method === undefined || method === 'none') return undefined;
  return { 'encrypt.format': method, 'encrypt.key-secret': KEY };
}

/** An image is encrypted, and no key is given. */
export function keyMissing(shown: string): ImageError {
  return new ImageError(`${shown} is encrypted: name the file that contains its key, with --key-file=FILE`);
}

/**
 * The format that an image has when the user names a key.
 * @param shown its name, printable
 * @throws ImageError when it is not encrypted, or in a way that QEMU does not support
 */
export function formatWithKey(shown: string, format: ImageFormat, head: Buffer): ImageFormat {
  if (format !== 'raw') {
    if (decryptionOf(format, head) !== undefined || format === 'qcow2') return format;
    throw new ImageError(`${shown} is ${format}, which is not encrypted: remove --key-file`);
  }
  if (!isLuks(head)) throw new ImageError(`${shown} is not encrypted: remove --key-file`);
  if (head.length >= 8 && head.readUInt16BE(6) === 1) return 'luks';
  throw new ImageError(
    `${shown} is LUKS version 2, which QEMU does not support: mount it without --key-file, and use cryptsetup open`,
  );
}

/** The words of a QEMU program that read the key. @param path absolute */
export function keyWords(path: string): readonly string[] {
  return ['--object', `secret,id=${KEY},file=${path.replaceAll(',', ',,')}`];
}

/** The error of a server that could not use the key; any other error as it is. */
export function explainedKey(error: unknown, name: string, keyFile: string | undefined): unknown {
  const message = error instanceof Error ? error.message : '';
  if (keyFile === undefined || !/Invalid password|cannot unlock any keyslot/.test(message)) return error;
  return new ImageError(
    `the key in ${printable(keyFile)} does not open ${printable(name)}: ` +
      'use another one; a newline at the end of the file belongs to the key',
    { cause: error },
  );
}
