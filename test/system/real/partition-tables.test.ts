// Partition tables of real programs, damaged and odd ones, compared with partx, which numbers as the kernel does.

import { copyFile, open, readFile, truncate } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPartitions } from '../../../src/partitions/partitions.js';
import type { PartitionTable } from '../../../src/partitions/table.js';
import { createScope } from '../../support/cleanup.js';
import { readerOf } from '../../support/disk-reader.js';
import {
  damage,
  type Entry,
  editImage,
  mbrSector,
  placesOfPartx,
  withLoopDevice,
} from '../../support/partitions.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { requirePrograms } from '../../support/run/requires.js';
import { Scope } from '../../support/run/scope.js';

requirePrograms('partx', 'sfdisk', 'losetup');

const MIB = 1024 * 1024;
const SIZE = 16 * MIB;
const GPT = 'label: gpt\nstart=2048, size=2048, name="boot disk"\nstart=8192, size=2048, name=root\n';

async function emptyImage(scope: Scope, name = 'disk.raw'): Promise<string> {
  const path = scope.path(name);
  await (await open(path, 'w')).close();
  await truncate(path, SIZE);
  return path;
}

async function tableOf(path: string): Promise<PartitionTable> {
  return readPartitions(readerOf(await readFile(path)));
}

const placesIn = ({ partitions }: PartitionTable) =>
  partitions.map(({ number, offset, size }) => [number, Number(offset), Number(size)]);

/** Tables by the sector that they are in. */
type Tables = Readonly<Record<number, readonly (Entry | undefined)[]>>;

const LINK: Entry = [0x83, 8, 100];
const ODD: readonly (readonly [string, Tables])[] = [
  [
    'an entry of type 0',
    {
      0: [
        [0, 64, 1000],
        [0xef, 2000, 100],
      ],
    },
  ],
  [
    'a partition that starts at 0',
    {
      0: [
        [0x17, 0, 30_000],
        [0, 100, 50],
      ],
    },
  ],
  [
    'overlapping partitions',
    {
      0: [
        [0x83, 100, 1000],
        [0x83, 500, 1000],
        [0x83, 100, 1000],
      ],
    },
  ],
  [
    'a link with swapped entries',
    { 0: [undefined, [5, 2048, 8192]], 2048: [[5, 2048, 2048], LINK], 4096: [LINK] },
  ],
  [
    'two extended partitions',
    {
      0: [
        [0x83, 64, 100],
        [5, 2048, 4096],
        [0xf, 8192, 4096],
      ],
      2048: [LINK, [5, 2048, 2048]],
      4096: [LINK],
      8192: [LINK, [0x85, 2048, 2048]],
      10240: [LINK],
    },
  ],
  [
    'an extended partition before a primary one',
    {
      0: [
        [5, 8192, 8192],
        [0x83, 64, 100],
      ],
      8192: [LINK],
    },
  ],
  [
    'links with four partitions, of which one is garbage',
    { 0: [[5, 2048, 8192]], 2048: [LINK, [0x83, 200, 50], [0x83, 300, 50], [0x83, 300, 60_000]] },
  ],
  ['an empty first link', { 0: [[5, 2048, 8192]], 2048: [undefined, [5, 2048, 2048]], 4096: [LINK] }],
  [
    'a link with a partition of type 0',
    {
      0: [[5, 2048, 8192]],
      2048: [
        [0, 8, 100],
        [5, 2048, 2048],
      ],
      4096: [LINK],
    },
  ],
  ['a chain that ends at a sector without a table', { 0: [[5, 2048, 8192]], 2048: [LINK, [5, 3000, 100]] }],
  [
    'two links after another',
    {
      0: [[5, 2048, 8192]],
      2048: [
        [5, 2048, 99],
        [5, 4096, 99],
      ],
      4096: [LINK],
      6144: [LINK],
    },
  ],
];

describe('MBR', () => {
  it.each(ODD)('numbers %s as partx does', async (_, tables) => {
    const path = await emptyImage(createScope());
    await editImage(path, async (handle) => {
      for (const [sector, entries] of Object.entries(tables)) {
        await handle.write(mbrSector(entries), 0, 512, Number(sector) * 512);
      }
    });
    const expected = await placesOfPartx(path);
    expect(expected.length).toBeGreaterThan(0);
    expect(placesIn(await tableOf(path))).toEqual(expected);
  });
});

/** The sector with a disk label of BSD: type, start and length of each partition. */
function bsdLabel(entries: readonly Entry[]): Buffer {
  const label = Buffer.alloc(512);
  for (const at of [0, 132]) label.writeUInt32LE(0x82564557, at);
  label.writeUInt16LE(entries.length, 138);
  for (const [i, [type, start, length]] of entries.entries()) {
    label.writeUInt32LE(length, 148 + i * 16);
    label.writeUInt32LE(start, 148 + i * 16 + 4);
    label.writeUInt8(type, 148 + i * 16 + 12);
  }
  const words = Array.from({ length: (148 + entries.length * 16) / 2 }, (_, i) => label.readUInt16LE(2 * i));
  label.writeUInt16LE(
    words.reduce((sum, word) => sum ^ word, 0),
    136,
  );
  return label;
}

describe('disk label of BSD in an MBR', () => {
  it.each<[string, number, readonly Entry[]]>([
    [
      'FreeBSD, counted from the disk',
      0xa5,
      [
        [7, 2064, 500],
        [0, 3000, 10],
        [7, 2048, 8192],
        [7, 3000, 700],
      ],
    ],
    [
      'FreeBSD, counted from the partition',
      0xa5,
      [
        [7, 16, 500],
        [1, 600, 10],
        [7, 0, 8192],
        [7, 1000, 7192],
      ],
    ],
    [
      'OpenBSD',
      0xa6,
      [
        [7, 2064, 500],
        [1, 3000, 100],
        [7, 0, 30_000],
        [7, 10_000, 300],
      ],
    ],
    [
      'NetBSD',
      0xa9,
      [
        [7, 2064, 500],
        [1, 10_200, 100],
      ],
    ],
  ])('is read as partx does: %s', async (_, type, entries) => {
    const path = await emptyImage(createScope());
    await editImage(path, async (handle) => {
      const table: readonly Entry[] = [
        [type, 2048, 8192],
        [5, 16_384, 8192],
      ];
      await handle.write(mbrSector(table), 0, 512, 0);
      await handle.write(mbrSector([LINK]), 0, 512, 16_384 * 512);
      await handle.write(bsdLabel(entries), 0, 512, 2049 * 512);
    });
    const expected = await placesOfPartx(path);
    expect(expected.length).toBeGreaterThan(2);
    expect(placesIn(await tableOf(path))).toEqual(expected);
  });
});

/** Writes a GPT for sectors of a size. Returns the table as sfdisk lists it. */
async function writeGpt(path: string, sectorSize: number): Promise<string> {
  const lines = sectorSize === 512 ? GPT : GPT.replaceAll('2048', '256').replace('8192', '1024');
  return withLoopDevice(path, sectorSize, async (device) => {
    await runShell('printf %b "$1" | sfdisk --quiet "$0"', device, lines);
    return runProgram('sfdisk', '--json', device);
  });
}

const templates = new Scope();
const TEMPLATES = new Map<number, { readonly path: string; readonly listed: string }>();

beforeAll(async () => {
  for (const size of [512, 4096]) {
    const path = await emptyImage(templates, `${size}.raw`);
    TEMPLATES.set(size, { path, listed: await writeGpt(path, size) });
  }
});

afterAll(() => templates.close());

/** A disk with a GPT for sectors of a size. */
async function createGpt(scope: Scope, sectorSize: number): Promise<string> {
  const path = scope.path('disk.raw');
  await copyFile(TEMPLATES.get(sectorSize)?.path ?? '', path);
  return path;
}

describe.each([512, 4096])('GPT for sectors of %d bytes', (sector) => {
  const primary = sector;
  const backup = SIZE - sector;
  const FOUND = [
    [1, MIB, MIB],
    [2, 4 * MIB, MIB],
  ];

  it('has the partitions of partx, with their labels and types', async () => {
    const path = await createGpt(createScope(), sector);
    const table = await tableOf(path);
    expect(placesIn(table)).toEqual(FOUND);
    expect(await placesOfPartx(path, sector)).toEqual(FOUND);
    expect(table.warning).toBeUndefined();
    const { partitions } = JSON.parse(TEMPLATES.get(sector)?.listed ?? '').partitiontable;
    const told = partitions.map(({ name, type, uuid }: Record<string, string>) => [name, type, uuid]);
    const own = table.partitions.map(({ label, type, uuid }) => [
      label,
      type.toUpperCase(),
      uuid.toUpperCase(),
    ]);
    expect(own).toEqual(told);
  });

  it.each([
    ['signature', primary, 'no header'],
    ['length of the header', primary + 13, 'length of the header'],
    ['first usable sector', primary + 40, 'checksum of the header'],
    ['checksum of the entries', primary + 88, 'checksum of the header'],
    ['number of entries', primary + 83, 'checksum of the header'],
    ['entries', 2 * sector + 40, 'checksum of the entries'],
  ])('with a damaged %s uses the backup with a warning, as partx', async (_, at, why) => {
    const path = await createGpt(createScope(), sector);
    await damage(path, at);
    const table = await tableOf(path);
    expect(placesIn(table)).toEqual(FOUND);
    expect(await placesOfPartx(path, sector)).toEqual(FOUND);
    expect(table.warning).toBe(
      `the GPT at the beginning of the disk is damaged (${why}): using the backup at the end; ` +
        'fdisk or gdisk can repair it',
    );
  });

  it('is damaged when both copies are, and never the entry of the MBR', async () => {
    const path = await createGpt(createScope(), sector);
    await damage(path, primary + 60);
    await damage(path, backup + 60);
    expect(await placesOfPartx(path, sector)).toEqual([]);
    await expect(tableOf(path)).rejects.toThrow(
      'the GPT of the disk is damaged (checksum of the header), and there is no good backup',
    );
  });

  it('of a disk that was cut is damaged', async () => {
    const path = await createGpt(createScope(), sector);
    await truncate(path, SIZE / 2);
    await expect(tableOf(path)).rejects.toThrow('damaged (made for a larger disk)');
  });

  it('of a disk that has grown needs no backup', async () => {
    const path = await createGpt(createScope(), sector);
    await truncate(path, SIZE * 2);
    expect(placesIn(await tableOf(path))).toEqual(FOUND);
    await damage(path, primary);
    await expect(tableOf(path)).rejects.toThrow('the GPT of the disk is damaged (no header)');
  });

  it('counts whatever the first bytes of the entries of its MBR are', async () => {
    const path = await createGpt(createScope(), sector);
    await editImage(path, (handle) => handle.write(Buffer.from([0x7f]), 0, 1, 446));
    expect(placesIn(await tableOf(path))).toEqual(FOUND);
    expect(await placesOfPartx(path, sector)).toEqual(FOUND);
  });

  it('with a hybrid MBR has its own partitions only', async () => {
    const path = await createGpt(createScope(), sector);
    await editImage(path, (handle) =>
      handle.write(
        mbrSector([
          [0x83, 100, 50],
          [0xee, 1, 99],
        ]),
        0,
        512,
        0,
      ),
    );
    expect(placesIn(await tableOf(path))).toEqual(FOUND);
    await damage(path, primary + 60);
    await damage(path, backup + 60);
    await expect(tableOf(path)).rejects.toThrow('the GPT of the disk is damaged');
  });
});

it('GPT: the newer one counts where a disk has one for each size of sectors', async () => {
  const path = await createGpt(createScope(), 512);
  const bytes = await readFile(path);
  const other = await createGpt(createScope(), 4096);
  // Only the first sector of the older table is left.
  await editImage(other, (handle) => handle.write(bytes, 512, 512, 512));
  expect(await placesOfPartx(other, 4096)).toEqual(placesIn(await tableOf(other)));
});
