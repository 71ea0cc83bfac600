// The other files that an image's header names: backing files, data files, extents. Pure.
//
// An untrusted image may name any file of this machine, whose bytes are then in the disk. Used by chain.ts, which
// decides which files are acceptable. Layouts: docs/interop/qcow2.txt and qed_spec.txt of QEMU; Microsoft's Virtual
// Hard Disk Image Format Specification.

import { type Reference, utf8 } from './reference.js';
import { vmdkReferences } from './vmdk.js';

const QCOW2_DATA_FILE_BIT = 4;
const QCOW2_BACKING_FORMAT = 0xe2792aca;
const QCOW2_DATA_FILE_NAME = 0x44415441;
/** Longest backing file name in qcow2. */
const MAX_NAME = 1023;
const QED_BACKING_FILE_BIT = 1;
const QED_NO_PROBE_BIT = 4;

/** A text as QEMU reads it, up to a NUL; empty when it is partly beyond `head`, or not UTF-8. */
function textAt(head: Buffer, offset: number, length: number): string {
  if (length > MAX_NAME || offset + length > head.length) return '';
  const bytes = head.subarray(offset, offset + length);
  const end = bytes.indexOf(0);
  return utf8(end < 0 ? bytes : bytes.subarray(0, end));
}

/**
 * The header extensions of a qcow2, by their type; of two of a type the later counts. None when some are beyond `head`,
 * since a later one could say something else.
 */
function qcow2Extensions(head: Buffer, from: number, end: number): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (let at = from; at + 8 <= end; ) {
    if (at + 8 > head.length) return new Map();
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === 0) break;
    if (length > Math.min(end, head.length) - at - 8) return new Map();
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
  // They end where the name begins, or with the first cluster.
  const end = backingOffset === 0 ? 2 ** Math.min(head.readUInt32BE(20), 21) : backingOffset;
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

/** The type of a VHD that holds only the differences from another one. */
const VHD_DIFFERENCING = 4;

/** QEMU takes such a disk as complete, and reads its gaps as zeros. */
function vhdReferences(head: Buffer): Reference[] {
  if (head.length < 64 || head.toString('latin1', 0, 8) !== 'conectix') return [];
  if (head.readUInt32BE(60) !== VHD_DIFFERENCING) return [];
  return [{ role: 'parent', name: '', format: undefined }];
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
    case 'vpc':
    case 'vhd':
      return vhdReferences(head);
    default:
      return [];
  }
}
