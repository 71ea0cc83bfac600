// Files that are no raw disks, and that neither QEMU nor nbdkit opens as one: archives, backups, forensic containers,
// compressed and encrypted files. Pure.
//
// A program that writes to such a file as if it were a disk destroys it. Used by choice.ts. Magic numbers are those of
// the formats' own documents.

import { crc32 } from '../partitions/crc32.js';
import { mbrEntries } from '../partitions/mbr.js';
import { findSignature, type Signature } from '../partitions/signature.js';

/** The kind of a file, and the next step. */
export interface Foreign {
  /** `a 7z archive`. */
  readonly what: string;
  readonly remedy: string;
  /** Of an archive: the next step where it lies in another archive. */
  readonly nestedRemedy?: string;
}

interface Mark extends Foreign, Signature {}

const SECTOR = 512;

const mark = (bytes: string, what: string, remedy: string, offset = 0): Mark => ({
  offset,
  bytes,
  what,
  remedy,
});
const unpack = (bytes: string, what: string, command: string, offset = 0): Mark =>
  mark(bytes, what, `unpack it first (${command})`, offset);

const MARKS: readonly Mark[] = [
  // Archives.
  unpack('PK\x05\x06', 'an empty zip archive', 'unzip'),
  unpack('PK\x07\x08', 'a part of a zip archive', '7z x'),
  unpack('PK00PK\x03\x04', 'a part of a zip archive', '7z x'),
  unpack('7z\xbc\xaf\x27\x1c', 'a 7z archive', '7z x'),
  unpack('Rar!\x1a\x07', 'a rar archive', 'unrar x'),
  unpack('MSCF\0\0\0\0', 'a cabinet archive', 'cabextract'),
  unpack('070701', 'a cpio archive', 'cpio -i'),
  unpack('070702', 'a cpio archive', 'cpio -i'),
  unpack('070707', 'a cpio archive', 'cpio -i'),
  unpack('!<arch>\n', 'an ar archive', 'ar x'),
  unpack('xar!', 'a xar archive', 'bsdtar -xf'),
  unpack('\xed\xab\xee\xdb', 'an RPM package', 'rpm2cpio'),
  unpack('**ACE**', 'an ACE archive', 'unace x', 7),
  ...['0', '4', '5', '6', '7', 'd'].map((kind) => unpack(`-lh${kind}-`, 'an LHA archive', 'lha x', 2)),
  unpack('zPQ', 'a zpaq archive', 'zpaq x'),
  unpack('7kSt', 'a zpaq archive', 'zpaq x'),
  unpack('ZOO ', 'a zoo archive', 'unar'),
  unpack('SIT!', 'a StuffIt archive', 'unar'),
  unpack('StuffIt (c)', 'a StuffIt archive', 'unar'),
  unpack('ALZ\x01', 'an ALZip archive', 'unar'),
  unpack('AA01', 'an Apple archive', 'aa extract'),
  unpack('YAA1', 'an Apple archive', 'aa extract'),
  unpack('WARC/', 'a WARC archive', 'bsdtar -xf'),
  mark('ANDROID BACKUP\n', 'an Android backup', 'restore it first (adb restore)'),
  ...['MSWIM\0\0\0', 'WLPWM\0\0\0'].map((bytes) =>
    mark(bytes, 'a Windows image (WIM)', 'extract its files (wimapply), it holds no disk'),
  ),
  // Compressed files.
  unpack('\x89LZO\0\r\n\x1a\n', 'a file compressed with lzop', 'lzop -d'),
  unpack('LZIP\x01', 'a file compressed with lzip', 'lzip -d'),
  unpack('LRZI', 'a file compressed with lrzip', 'lrzip -d'),
  unpack('RZIP\x02', 'a file compressed with rzip', 'rzip -d'),
  ...['bvx1', 'bvx2', 'bvxn', 'bvx-'].map((bytes) =>
    unpack(bytes, 'a file compressed with lzfse', 'lzfse -decode'),
  ),
  unpack('pbzx\0\0\0', 'a file compressed with pbzx', 'pbzx'),
  // Versions before 0.8.
  ...['\x22', '\x23', '\x24', '\x25', '\x26', '\x27'].map((byte) =>
    unpack(
      `${byte}\xb5\x2f\xfd`,
      'a file compressed with an old zstd',
      'zstd -d, built with ZSTD_LEGACY_SUPPORT',
    ),
  ),
  unpack('BZ3v1', 'a file compressed with bzip3', 'bzip3 -d'),
  unpack('\xff\x06\0\0sNaPpY', 'a file compressed with snappy', 'snzip -d'),
  // Encrypted files.
  mark('Salted__', 'a file that openssl has encrypted', 'decrypt it first (openssl enc -d)'),
  // gpg --symmetric (packets of version 4), and for a key (of RSA or of an elliptic curve).
  ...['\x8c\x0d\x04', '\x85\x01\x0c\x03', '\x85\x02\x0c\x03', '\x84\x5e\x03'].map((bytes) =>
    mark(bytes, 'a file that gpg has encrypted', 'decrypt it first (gpg -d)'),
  ),
  mark('age-encryption.org/', 'a file that age has encrypted', 'decrypt it first (age -d)'),
  mark('-----BEGIN PGP MESSAGE', 'a file that gpg has encrypted', 'decrypt it first (gpg -d)'),
  mark('-----BEGIN AGE ENCRYPTED', 'a file that age has encrypted', 'decrypt it first (age -d)'),
  mark('AEA1', 'an encrypted Apple archive', 'decrypt it where it was made (aea decrypt)'),
  // Images of phones and of operating systems.
  mark('\x3a\xff\x26\xed', 'an Android sparse image', 'convert it first (simg2img)'),
  mark('CrAU', 'an Android update', 'extract its images first (payload-dumper)'),
  mark('SignedImage ', 'a Full Flash Update of Windows (FFU)', 'extract its disk first (ImgMount, DISM)', 4),
  // Forensic containers.
  mark('EVF\x09\r\n\xff\0', 'an EnCase image (E01)', 'mount it with ewfmount first, and then its file ewf1'),
  mark('EVF2\r\n\x81\0', 'an EnCase image (Ex01)', 'mount it with ewfmount first, and then its file ewf1'),
  mark('LVF\x09\r\n\xff\0', 'a logical EnCase image (L01)', 'open it with ewfmount -f files'),
  mark('LEF2\r\n\x81\0', 'a logical EnCase image (Lx01)', 'open it with ewfmount -f files'),
  mark('ADSEGMENTEDFILE\0', 'an FTK image (AD1)', 'open it with FTK Imager'),
  mark('AFF10\r\n\0', 'an AFF image', 'mount it with affuse first, and then its file'),
  // Backups.
  mark('partclone-image', 'a partclone image', 'restore it first (partclone.restore)'),
  mark('PaRtImAgE-VoLuMe', 'a partimage image', 'restore it first (partimage)'),
  mark('\0ntfsclone-image', 'an ntfsclone image', 'restore it first (ntfsclone --restore-image)'),
  mark('FsArCh_0', 'a fsarchiver archive', 'restore it first (fsarchiver restfs)'),
  mark('FsA0', 'a fsarchiver archive', 'restore it first (fsarchiver restfs)'),
  mark('\0\0\0\x7b', 'a dar archive', 'restore it first (dar -x)'),
  // In either order of bytes; a byte of the old kind is different.
  ...['\x6c\xea\0\0', '\x6b\xea\0\0', '\0\0\xea\x6c', '\0\0\xea\x6b', '\x19\x01\x54\x19'].map((bytes) =>
    mark(bytes, 'a backup of dump(8)', 'restore it first (restore -rf)', 24),
  ),
  mark('xFSdump0', 'a backup of xfsdump', 'restore it first (xfsrestore)'),
  mark('btrfs-stream\0', 'a stream of btrfs send', 'restore it first (btrfs receive)'),
  mark('\xac\xcb\xba\xf5\x02\0\0\0', 'a stream of zfs send', 'restore it first (zfs receive)', 8),
  mark('\0\0\0\x02\xf5\xba\xcb\xac', 'a stream of zfs send', 'restore it first (zfs receive)', 8),
  mark('VMA\0', 'a Proxmox backup (VMA)', 'unpack it first (vma extract)'),
  mark('\xfe\xef\x01', 'a Norton Ghost image', 'restore it with Ghost first'),
  mark('\xce\x24\xb9\xa2\x20\0\0\0', 'an Acronis backup', 'restore it with Acronis True Image first'),
  // States of virtual machines.
  mark('LibvirtQemudSave', 'a saved virtual machine (libvirt)', 'name a disk of the machine'),
  mark('LibvirtQemudPart', 'a saved virtual machine (libvirt)', 'name a disk of the machine'),
  mark('QEVM', 'a saved virtual machine (QEMU)', 'name a disk of the machine'),
  mark('\x7fVirtualBox SavedState', 'a saved virtual machine (VirtualBox)', 'name a disk of the machine'),
  ...['\xd0', '\xd1', '\xd2'].map((byte) =>
    mark(`${byte}\xbe\xd2\xbe`, 'a saved virtual machine (VMware)', 'name a disk of the machine'),
  ),
  mark('LinuxGuestRecord', 'a saved virtual machine (Xen)', 'name a disk of the machine'),
  mark('XenSavedDomain\n', 'a saved virtual machine (Xen)', 'name a disk of the machine'),
  ...['KDUMP   ', 'DISKDUMP', 'PAGEDUMP', 'PAGEDU64'].map((bytes) =>
    mark(bytes, 'a copy of the memory of a machine', 'name a disk of the machine'),
  ),
  // Disk images of other makers.
  mark('encrcdsa', 'an encrypted dmg', 'convert it where it was made (hdiutil convert)'),
  mark('shdw', 'a sparse image of macOS (ASIF)', 'convert it where it was made (diskutil image create)'),
  mark('sprs', 'a sparse image of macOS', 'convert it where it was made (hdiutil convert)'),
  // Compressed or raw copies of optical discs.
  mark('MComprHD', 'a CHD image', 'extract it first (chdman)'),
  mark('CISO', 'a compressed ISO image (CISO)', 'unpack it first (maxcso)'),
  mark('ZISO', 'a compressed ISO image (ZISO)', 'unpack it first (maxcso)'),
  mark('IsZ!', 'a compressed ISO image (ISZ)', 'convert it first (UltraISO)'),
  mark('DAA\0', 'a compressed ISO image (DAA)', 'convert it first (daa2iso)'),
  mark('MEDIA DESCRIPTOR', 'a description of a CD image (MDS)', 'name the image itself (MDF)'),
  mark('WBFS', 'a disc image of a Wii (WBFS)', 'convert it first (wit copy)'),
  ...['WIA\x01', 'RVZ\x01'].map((bytes) =>
    mark(bytes, 'a compressed disc image of a Wii', 'convert it first (dolphin-tool)'),
  ),
  mark('ECM\0', 'a CD image without its checksums (ECM)', 'unpack it first (unecm)'),
  mark(
    '\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0',
    'a CD image with sectors of 2352 bytes',
    'convert it to an ISO image first (bchunk, iat)',
  ),
  // Remains of a failed download.
  mark(
    'version https://git-lfs.github.com/spec/',
    'a pointer of Git LFS',
    'get the file itself (git lfs pull)',
  ),
  mark('JigsawDownload', 'a template of jigdo', 'make the image first (jigdo-lite)'),
  mark('d8:announce', 'a torrent', 'download its files first'),
];

/** The first line of a script. */
const SCRIPT_LINE = /^#! ?\/\S/;
const PAGE = /^(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head)\b/i;
const ENVELOPE =
  /^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*>[\s\S]{0,2048}?<(?:\w+:)?(Envelope|VirtualBox|domain|Parallels_disk_image)\b/;
/** The XML in which S3 and similar servers report an error. */
const ANSWER = /^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*>\s*<Error>/;

/** Whether a sector is an MBR with at least one partition that Linux would show. */
export function hasPartitions(head: Buffer): boolean {
  return mbrEntries(head)?.some(({ length }) => length > 0n) ?? false;
}

/** Whether a block is the header of a tar member: its checksum is right. */
export function isTarHeader(block: Buffer): boolean {
  if (block.length < SECTOR || block[0] === 0) return false;
  const field = block.toString('latin1', 148, 156);
  const digits = /^ *([0-7]{1,7})[\0 ]*$/.exec(field)?.[1];
  if (digits === undefined) return false;
  let sum = 8 * 0x20;
  for (const [at, byte] of block.subarray(0, SECTOR).entries()) if (at < 148 || at >= 156) sum += byte;
  return sum === Number.parseInt(digits, 8);
}

/** LZMA without a container: properties, a dictionary that is a power of two (or three halves), a length. */
function isLzma(head: Buffer): boolean {
  if (head.length < 14 || head[0] !== 0x5d || head[13] !== 0) return false;
  const dictionary = head.readUInt32LE(1);
  const length = head.readBigUInt64LE(5);
  const isPower = [1, 1.5].some((part) => Number.isInteger(Math.log2(dictionary / part)));
  return dictionary >= 4096 && isPower && (length === 2n ** 64n - 1n || length < 2n ** 38n);
}

/** compress(1): two magic bytes, and the maximum length of its codes. */
function isCompress(head: Buffer): boolean {
  const bits = (head[2] ?? 0) & 0x1f;
  return (
    head.toString('latin1', 0, 2) === '\x1f\x9d' && ((head[2] ?? 0) & 0x60) === 0 && bits >= 9 && bits <= 16
  );
}

/** The old cpio in binary: 13 numbers of 16 bits in either order, and a name that ends with a NUL. */
function isBinaryCpio(head: Buffer): boolean {
  const magic = head.length < 512 ? 0 : head.readUInt16LE(0);
  if (magic !== 0o070707 && magic !== 0xc771) return false;
  const number = (at: number): number => (magic === 0xc771 ? head.readUInt16BE(at) : head.readUInt16LE(at));
  const [type, nameLength] = [number(6) >> 12, number(20)];
  const name = head.subarray(26, 26 + nameLength);
  return [1, 2, 4, 6, 8, 10, 12].includes(type) && nameLength > 1 && name.indexOf(0) === nameLength - 1;
}

/** ARJ: two magic bytes, and a header with a CRC. */
function isArj(head: Buffer): boolean {
  if (head.length < 4 || head.readUInt16LE(0) !== 0xea60) return false;
  const [start, length] = [4, head.readUInt16LE(2)];
  if (length < 30 || start + length + 4 > head.length) return false;
  return crc32(head.subarray(start, start + length)) === head.readUInt32LE(start + length);
}

/** A program of Windows: a header of DOS that names the place of the new one. */
function isWindowsProgram(head: Buffer): boolean {
  if (head.length < 64 || head.toString('latin1', 0, 2) !== 'MZ') return false;
  const at = head.readUInt32LE(60);
  return head.toString('latin1', at, at + 4) === 'PE\0\0';
}

/** A program, a library or the memory of one: the magic bytes, and the sizes and order of its numbers. */
function isElf(head: Buffer): boolean {
  if (head.length < 7 || head.toString('latin1', 0, 4) !== '\x7fELF') return false;
  return [1, 2].includes(head[4]) && [1, 2].includes(head[5]) && head[6] === 1;
}

const CPIO: Foreign = { what: 'a cpio archive', remedy: 'unpack it first (cpio -i)' };
const ARJ: Foreign = { what: 'an ARJ archive', remedy: 'unpack it first (arj x)' };
const WINDOWS_PROGRAM: Foreign = {
  what: 'a program of Windows',
  remedy: 'unpack it first if it is an archive that unpacks itself (7z x)',
};
const RUN = 'name a disk, or run it if it is an archive that unpacks itself';
const LINUX_PROGRAM: Foreign = {
  what: 'a program, or a copy of the memory of one (ELF)',
  remedy: RUN,
};
const SCRIPT: Foreign = { what: 'a script', remedy: RUN };
const TAR: Foreign = {
  what: 'a tar archive',
  remedy: 'open a disk in it with --member NAME, or unpack it (tar -xf)',
  nestedRemedy: 'unpack both archives first (tar -xf)',
};
const ZIP: Foreign = {
  what: 'a zip archive',
  remedy: 'open a disk in it with --member NAME, or unpack it (unzip)',
  nestedRemedy: 'unpack both archives first (unzip)',
};
const LZMA: Foreign = { what: 'a file compressed with lzma', remedy: 'unpack it first (lzma -d)' };
const COMPRESS: Foreign = { what: 'a file compressed with compress', remedy: 'unpack it first (gzip -d)' };
const ANSWERED: Foreign = {
  what: 'an error of a web server',
  remedy: 'look at it with less(1), and get it again',
};
const WEB_PAGE: Foreign = { what: 'a web page', remedy: 'check what you have downloaded' };
const SKIPPABLE: Foreign = {
  what: 'a file compressed with zstd or lz4',
  remedy: 'name its compression (--format=zst or --format=lz4)',
};
const UIF: Foreign = { what: 'a compressed ISO image (UIF)', remedy: 'convert it first (uif2iso)' };
const OLD_ENCRYPTED_DMG: Foreign = {
  what: 'an encrypted dmg',
  remedy: 'convert it where it was made (hdiutil convert)',
};
const NERO: Foreign = { what: 'a Nero CD image', remedy: 'convert it first (nrg2iso)' };
const XML: Foreign = { what: 'a description of a virtual machine', remedy: 'name a disk of the machine' };

/** An archive whose members nbdfuse finds. */
export type ArchiveKind = 'zip' | 'tar';

/** The record that ends a zip archive, and its length. */
const ZIP_END = { bytes: Buffer.from('PK\x05\x06', 'latin1'), length: 22 };

/** Whether a file with these last bytes ends as a zip archive, which may begin as a program that unpacks it. */
export function endsAsZip(tail: Buffer): boolean {
  const at = tail.lastIndexOf(ZIP_END.bytes);
  return at >= 0 && at + ZIP_END.length <= tail.length;
}

/** The kind of the archive that begins with `head`. */
export function archiveOfContent(head: Buffer): ArchiveKind | undefined {
  if (hasPartitions(head)) return undefined;
  if (head.toString('latin1', 0, 4) === 'PK\x03\x04') return 'zip';
  return isTarHeader(head) ? 'tar' : undefined;
}

/** Frames of zstd and lz4 without content: pzstd and the seekable format begin with one. */
export function isSkippable(head: Buffer): boolean {
  return head.length >= 8 && (head.readUInt32LE(0) & 0xfffffff0) >>> 0 === 0x184d2a50;
}

/** Kinds without magic bytes that suffice; the text is the beginning of the file, one character for each byte. */
const KINDS: readonly (readonly [(head: Buffer, text: string) => boolean, Foreign])[] = [
  [isLzma, LZMA],
  [isCompress, COMPRESS],
  [isBinaryCpio, CPIO],
  [isArj, ARJ],
  [isWindowsProgram, WINDOWS_PROGRAM],
  [isElf, LINUX_PROGRAM],
  [isSkippable, SKIPPABLE],
  [(_, text) => SCRIPT_LINE.test(text), SCRIPT],
  [(_, text) => ANSWER.test(text), ANSWERED],
  [(_, text) => PAGE.test(text), WEB_PAGE],
  [(_, text) => ENVELOPE.test(text), XML],
];

/** The kind of a file with these last bytes. */
function foreignByTail(tail: Buffer): Foreign | undefined {
  const text = tail.toString('latin1');
  if (/(?:NER5.{8}|.{4}NERO.{4})$/s.test(text.slice(-12))) return NERO;
  if (text.startsWith('bbis', text.length - 64)) return UIF;
  return text.endsWith('cdsaencr') ? OLD_ENCRYPTED_DMG : undefined;
}

/**
 * Tells what a file with these first and last bytes is; undefined: it may be a raw disk. A file with a partition table is
 * one, whatever the code before the table looks like.
 */
export function foreignOf(head: Buffer, tail: Buffer = Buffer.alloc(0)): Foreign | undefined {
  if (hasPartitions(head)) return undefined;
  const byTail = foreignByTail(tail);
  if (byTail !== undefined) return byTail;
  const archive = archiveOfContent(head);
  if (archive !== undefined) return archive === 'zip' ? ZIP : TAR;
  const text = head.toString('latin1', 0, 4096);
  const found = findSignature(MARKS, head);
  if (found !== undefined) return found;
  return KINDS.find(([isKind]) => isKind(head, text))?.[1];
}
