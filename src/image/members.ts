// Finds the disk in an archive: the file that the user names, or the only one that is a disk.
//
// Used by prepare.ts. A file in an archive is a range of the archive, which a server serves or decodes.

import { basename } from 'node:path';
import { printable } from '../nbd/text.js';
import { findSignature, type Signature } from '../partitions/signature.js';
import type { DiskReader } from '../partitions/table.js';
import { chooseCompression, type Evidence } from './choice.js';
import { ImageError } from './errors.js';
import { type ArchiveKind, archiveOfContent, endsAsZip, foreignOf, hasPartitions } from './foreign.js';
import {
  type Compression,
  formatOfContent,
  formatOfName,
  type RequestedFormat,
  suffixOf,
} from './formats.js';
import { type Look, lookAtDisk } from './look.js';
import type { Member } from './member.js';
import { tarMembers } from './tar.js';
import { zipMembers } from './zip.js';

/** A disk in an archive. */
export interface FoundMember {
  readonly name: string;
  readonly range: { readonly offset: bigint; readonly size: bigint };
  /** How its bytes in the archive are compressed, by the archive or before; `deflate` only by a zip. */
  readonly coding: Compression | 'deflate' | undefined;
  /** The facts that the archive records of the decoded bytes, if the archive has compressed them. */
  readonly check: Member['check'];
  /** The bytes in the archive. */
  readonly look: Look;
}

/** Suffixes of names of disks, besides those of formats. */
const DISK_SUFFIX = /\.(?:img|raw|iso|bin|dd|disk|ima|flp)(?:\.(?:xz|gz|bz2|zst|lz4))?$/i;
/** Magic bytes of file systems and of volumes. */
const VOLUME_MARKS: readonly Signature[] = [
  { offset: 512, bytes: 'EFI PART' },
  { offset: 4096, bytes: 'EFI PART' },
  { offset: 32_769, bytes: 'CD001' },
  { offset: 1080, bytes: '\x53\xef' },
  { offset: 0, bytes: 'XFSB' },
  { offset: 0, bytes: 'LUKS\xba\xbe' },
  { offset: 0, bytes: 'hsqs' },
  { offset: 512, bytes: 'LABELONE' },
  { offset: 3, bytes: 'NTFS    ' },
];
/** Maximum files whose first bytes are read. */
const MAX_LOOKS = 64;
const MAX_NAMES = 6;
/** Maximum characters of a name in a message. */
export const NAME_LENGTH = 60;

const LIST: Readonly<Record<ArchiveKind, string>> = { zip: 'unzip -l', tar: 'tar -tvf' };
const UNPACK: Readonly<Record<ArchiveKind, string>> = { zip: 'unzip', tar: 'tar -xf' };

/** The archive that a name promises. */
export function archiveOfName(name: string): ArchiveKind | undefined {
  const plain = name.toLowerCase().replace(/\.(?:xz|gz|gzip|bz2|zst|zstd|lz4)$/, '');
  if (/\.zip$/.test(plain)) return 'zip';
  return /\.(?:tar|ova|tgz|txz|tbz2?|tzst|tlz4)$/.test(plain) ? 'tar' : undefined;
}

/**
 * The kind of the archive whose disk is wanted; undefined when the file itself is. As for a format, the name must agree
 * with the content, or the user must name a file of the archive.
 * @param evidence about the file, unpacked if it is compressed
 * @throws ImageError when it is no archive, or one whose files cannot be opened
 */
export function archiveToOpen(
  { name, head, tail = head }: Evidence,
  { format, compression = formatOfName(name).compression }: RequestedFormat,
  wanted: string | undefined,
): ArchiveKind | undefined {
  const shown = printable(name);
  const promised = archiveOfName(name);
  if (wanted === undefined && (promised === undefined || format === 'raw')) return undefined;
  const isZip = promised !== 'tar' && !hasPartitions(head) && endsAsZip(tail.length === 0 ? head : tail);
  const content = archiveOfContent(head) ?? (isZip ? 'zip' : undefined);
  if (content === undefined) {
    if (wanted !== undefined) throw new ImageError(`--member: ${shown} is neither a zip nor a tar archive`);
    if (foreignOf(head) !== undefined || format !== undefined) return undefined;
    const word = compression === undefined ? 'raw' : `raw.${suffixOf(compression)}`;
    throw new ImageError(
      `${shown} should be a ${promised} archive, but does not look like one: use --format=${word} if it is raw`,
    );
  }
  return content;
}

/** A range of a disk as a disk. */
export function rangeOf(disk: DiskReader, { offset, size }: FoundMember['range']): DiskReader {
  return { size, read: (at, length) => disk.read(offset + at, length) };
}

const look = (file: DiskReader, member: Member): Promise<Look> =>
  lookAtDisk({ ...rangeOf(file, member), readOnly: true });

/** The file in which macOS keeps the attributes of `disk.img`: `._disk.img`. */
const isAttributes = (name: string): boolean => basename(name).startsWith('._');

/** Whether a name or first bytes are those of a disk. */
export function isDisk(name: string, head: Buffer): boolean {
  if (isAttributes(name)) return false;
  if (DISK_SUFFIX.test(name) || formatOfName(name).format !== undefined) return true;
  return (
    formatOfContent(head) !== 'raw' || hasPartitions(head) || findSignature(VOLUME_MARKS, head) !== undefined
  );
}

async function disksOf(file: DiskReader, members: readonly Member[]): Promise<readonly Member[]> {
  const disks: Member[] = [];
  let looks = 0;
  for (const member of members) {
    const isPlain = member.problem === undefined && member.coding === undefined;
    const isReadable = isPlain && member.size > 0n && looks++ < MAX_LOOKS;
    const head =
      isReadable && !isDisk(member.name, Buffer.alloc(0)) ? (await look(file, member)).head : Buffer.alloc(0);
    if (isDisk(member.name, head)) disks.push(member);
  }
  return disks;
}

function listed(members: readonly Member[]): string {
  const names = members.slice(0, MAX_NAMES).map(({ name }) => printable(name, NAME_LENGTH));
  return members.length > MAX_NAMES ? `${names.join(', ')}, …` : names.join(', ');
}

const plainName = (name: string): string => name.replace(/^(?:\.?\/)+/, '');

async function choose(
  { shown, kind, wanted }: Pick<ArchiveRequest, 'shown' | 'kind' | 'wanted'>,
  file: DiskReader,
  members: readonly Member[],
): Promise<Member> {
  if (wanted !== undefined) {
    const found = members.findLast(({ name }) => plainName(name) === plainName(wanted));
    if (found !== undefined) return found;
    throw new ImageError(`${shown} has no file ${printable(wanted, NAME_LENGTH)}: it has ${listed(members)}`);
  }
  // Of several files of one name, an archiver unpacks the last.
  const named = new Map(members.map((member) => [plainName(member.name), member]));
  const [only, ...others] = named.values();
  if (only === undefined) throw new ImageError(`${shown} has no file: list what it has with ${LIST[kind]}`);
  if (others.length === 0) return only;
  const disks = await disksOf(file, [...named.values()]);
  const [disk, ...more] = disks;
  if (disk !== undefined && more.length === 0) return disk;
  const several =
    disk === undefined ? `no disk among its files (${listed(members)})` : `several disks (${listed(disks)})`;
  throw new ImageError(`${shown} has ${several}: name one with --member NAME`);
}

/** An archive, and the file that is wanted of it. */
export interface ArchiveRequest {
  /** The printable name of the archive. */
  readonly shown: string;
  readonly kind: ArchiveKind;
  /** Whether the archive as a whole is compressed, so that nothing decodes compressed members. */
  readonly isCompressed: boolean;
  readonly requested: RequestedFormat;
  /** The name of a file; undefined: the only disk. */
  readonly wanted: string | undefined;
}

/**
 * Finds the disk in an archive.
 * @throws ImageError when there is none, several, or one that no server decodes; the errors of `read`
 */
export async function findMember(
  { shown, kind, isCompressed, requested, wanted }: ArchiveRequest,
  file: DiskReader,
): Promise<FoundMember> {
  const members = kind === 'zip' ? await zipMembers(shown, file) : await tarMembers(shown, file);
  const member = await choose({ shown, kind, wanted }, file, members);
  const name = printable(member.name, NAME_LENGTH);
  const cannot = (problem: string): ImageError =>
    new ImageError(
      `${shown}: ${name} is ${problem} in the archive, and nbdfuse does not open it there yet: ` +
        `unpack it first (${member.unpackedBy ?? UNPACK[kind]})`,
    );
  if (member.problem !== undefined) throw cannot(member.problem);
  const { coding, check, offset, size } = member;
  const inside = await look(file, member);
  const compression = coding ?? chooseCompression({ ...inside, name: basename(member.name) }, requested);
  if (compression !== undefined && isCompressed) throw cannot('compressed');
  return { name: member.name, range: { offset, size }, coding: compression, check, look: inside };
}
