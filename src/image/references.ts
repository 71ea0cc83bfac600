// The other files that an image's header names: backing files, data files, extents. Pure.
//
// An image from a stranger may name any file of this machine, whose bytes then are in the disk. Used by
// chain.ts, which decides what is acceptable. Layouts: docs/interop/qcow2.txt and qed_spec.txt of QEMU,
// VMware's Virtual Disk Format 1.1.

/** A file that an image is made of besides its own bytes. */
export interface Reference {
  readonly role: 'backing file' | 'data file' | 'extent' | 'parent';
  readonly name: string;
  /** The format that is recorded for it, QEMU's name; undefined: none is recorded. */
  readonly format: string | undefined;
}

/** Bytes of a file that are looked at. */
export const HEAD_LENGTH = 65_536;

const QCOW2_DATA_FILE_BIT = 4;
const QCOW2_BACKING_FORMAT = 0xe2792aca;
const QCOW2_DATA_FILE_NAME = 0x44415441;
/** Longest backing file name in qcow2. */
const MAX_NAME = 1023;
const QED_BACKING_FILE_BIT = 1;
const QED_NO_PROBE_BIT = 4;

function textAt(head: Buffer, offset: number, length: number): string {
  return head.subarray(offset, offset + Math.min(length, MAX_NAME)).toString('utf8');
}

/** The header extensions of a qcow2, by their type. */
function qcow2Extensions(head: Buffer, from: number, to: number): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (let at = from; at + 8 <= to; ) {
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === 0 || length > to - at - 8) break;
    found.set(type, textAt(head, at + 8, length));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

function qcow2References(head: Buffer): Reference[] {
  if (head.length < 104) return [];
  const version = head.readUInt32BE(4);
  const backingOffset = Number(head.readBigUInt64BE(8));
  const backingLength = head.readUInt32BE(16);
  const incompatible = version >= 3 ? head.readUInt32BE(76) : 0;
  const headerLength = version >= 3 ? head.readUInt32BE(100) : 72;
  const end = Math.min(backingOffset === 0 ? head.length : backingOffset, head.length);
  const extensions = version >= 2 ? qcow2Extensions(head, headerLength, end) : new Map<number, string>();
  const references: Reference[] = [];
  if (backingOffset !== 0) {
    const name = textAt(head, backingOffset, backingLength);
    references.push({ role: 'backing file', name, format: extensions.get(QCOW2_BACKING_FORMAT) });
  }
  if ((incompatible & QCOW2_DATA_FILE_BIT) !== 0) {
    const name = extensions.get(QCOW2_DATA_FILE_NAME) ?? '';
    references.push({ role: 'data file', name, format: 'raw' });
  }
  return references;
}

/** Version 1: the name's offset and length are where they are in qcow2. */
function qcowReferences(head: Buffer): Reference[] {
  if (head.length < 48) return [];
  const offset = Number(head.readBigUInt64BE(8));
  if (offset === 0) return [];
  const name = textAt(head, offset, head.readUInt32BE(16));
  return [{ role: 'backing file', name, format: undefined }];
}

function qedReferences(head: Buffer): Reference[] {
  if (head.length < 64) return [];
  const features = head.readUInt32LE(16);
  if ((features & QED_BACKING_FILE_BIT) === 0) return [];
  const name = textAt(head, head.readUInt32LE(56), head.readUInt32LE(60));
  const format = (features & QED_NO_PROBE_BIT) === 0 ? undefined : 'raw';
  return [{ role: 'backing file', name, format }];
}

/** The text of a descriptor: a file of its own, or sectors of a sparse extent; undefined when it is not in reach. */
function vmdkDescriptor(head: Buffer): string | undefined {
  const [from, length] =
    head.toString('latin1', 0, 4) === 'KDMV'
      ? [Number(head.readBigUInt64LE(28)) * 512, Number(head.readBigUInt64LE(36)) * 512]
      : [0, head.length];
  if (from + length > head.length || (from === 0 && length === HEAD_LENGTH)) return undefined;
  return head.toString('utf8', from, from + length).replaceAll('\0', '');
}

const PARENT = 'parentFileNameHint';

/** As generous as the parser of QEMU, which looks for the word anywhere and needs no closing quote. */
function vmdkReferences(head: Buffer): Reference[] {
  if (head.length < 44) return [];
  const text = vmdkDescriptor(head);
  if (text === undefined) return [{ role: 'parent', name: '', format: 'vmdk' }];
  const references: Reference[] = [];
  const at = text.indexOf(PARENT);
  if (at >= 0) {
    const [name = ''] = text.slice(at + PARENT.length + 2).split('"', 1);
    references.push({ role: 'parent', name, format: 'vmdk' });
  }
  // A sparse extent that is the disk itself names itself; one of capacity 0 is but a descriptor.
  const isDisk = head.toString('latin1', 0, 4) === 'KDMV' && head.readBigUInt64LE(12) !== 0n;
  if (isDisk) return references;
  for (const [, name = ''] of text.matchAll(/^\s*RW\s+\d+\s+\w+\s+"([^"\r\n]*)/gm)) {
    references.push({ role: 'extent', name, format: 'raw' });
  }
  return references;
}

/** The files that an image of `format` (QEMU's name), which begins with `head`, names. */
export function referencesOf(format: string, head: Buffer): readonly Reference[] {
  switch (format) {
    case 'qcow2':
      return qcow2References(head);
    case 'qcow':
      return qcowReferences(head);
    case 'qed':
      return qedReferences(head);
    case 'vmdk':
      return vmdkReferences(head);
    default:
      return [];
  }
}

/** The size of the disk in a qcow2, in bytes. */
export function qcow2Size(head: Buffer): bigint {
  return head.length < 32 ? 0n : head.readBigUInt64BE(24);
}
