// A file that an image's header names.

/** Another file that an image is made of. */
export interface Reference {
  readonly role: 'backing file' | 'data file' | 'extent' | 'parent';
  /** Empty when it is not readable: partly beyond HEAD_LENGTH, or not UTF-8. */
  readonly name: string;
  /** The format that is recorded for it, QEMU's name; undefined: none is recorded. */
  readonly format: string | undefined;
}

/** Bytes of a file that are inspected. */
export const HEAD_LENGTH = 65_536;

const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A name's bytes (as characters of one byte, or as they are) as text; empty when they are not UTF-8. */
export function utf8(bytes: string | Uint8Array): string {
  try {
    return UTF_8.decode(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  } catch {
    return '';
  }
}
