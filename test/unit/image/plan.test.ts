// The command lines of servers: the programs, their order and the quoting.

import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Plan, programsFor, serverWords } from '../../../src/image/plan.js';
import { type BlockNode, descriptorNode } from '../../../src/image/qemu.js';
import { nameOf, parseSource } from '../../../src/image/source.js';
import { shellLine } from '../../../src/linux/shell.js';
import { CHUNK_SERVER_WORDS } from '../../../src/transport/chunk-program.js';
import { LAUNCHER } from '../../../src/transport/confine.js';
import { runProgram } from '../../support/run/command.js';

function plan(name: string, rest: Partial<Plan> = {}): Plan {
  return {
    source: parseSource(name),
    isDevice: false,
    compression: undefined,
    format: 'raw',
    readOnly: false,
    snapshotName: undefined,
    partition: undefined,
    overlay: undefined,
    ...rest,
  };
}

const line = (one: Plan, hasQemuNbd = true): string => shellLine(serverWords(one, hasQemuNbd));
const PART = { offset: 1_048_576n, size: 4096n };
const UNDER = 'env -u LISTEN_PID -u LISTEN_FDS nbdkit -U -';

/** qemu-nbd with these options and this tree. */
const qemu = (options: string, tree: BlockNode): string =>
  `qemu-nbd ${options} 'json:${JSON.stringify(tree)}'`;

/** The same as a word of nbdkit's `--run`, on top of nbdkit's socket. */
const below = (options: string, tree: BlockNode): string => {
  const inner = JSON.stringify(tree).replace('"SOCKET"', `"'"$unixsocket"'"`);
  return `LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd ${options} 'json:${inner}'`;
};
/** Of the query `token=secret`. */
const HASH = createHash('sha256').update('token=secret').digest('hex');
const CHUNKS = shellLine(CHUNK_SERVER_WORDS);
const quoted = (words: string): string => `'${words.replaceAll("'", "'\\''")}'`;

const file = (filename: string): BlockNode => ({ driver: 'file', filename });
const SOCKET: BlockNode = { driver: 'nbd', server: { type: 'unix', path: 'SOCKET' } };
const PART_OF = { driver: 'raw', offset: '1048576', size: '4096' };

describe('raw image of an odd size', () => {
  const odd = { oddSize: 1000n };

  it('is cut to its size on top of the server of QEMU', () => {
    const one = plan('d.img', { ...odd, overlay: 'temporary' });
    expect(line(one)).toMatch(
      /^\S+ \S+\/nbdfuse-proxy --size=1000 -- qemu-nbd --persistent --discard=unmap --snapshot /,
    );
    expect(programsFor(one, true)).toEqual(['qemu-nbd']);
    expect(line(plan('https://h/d.img', { ...odd, overlay: 'temporary' }))).toMatch(
      /nbdfuse-proxy --size=1000 -- \S+ \S*nbdfuse-chunks .* '--run=/,
    );
  });

  it('needs no second server where nbdkit has the bytes, or for a partition', () => {
    for (const one of [plan('https://h/d.img', odd), plan('d.img', { ...odd, partition: PART })]) {
      expect(line(one)).toBe(line({ ...one, oddSize: undefined }));
      expect(programsFor(one, true)).toHaveLength(1);
    }
    for (const hasQemuNbd of [true, false])
      expect(line(plan('d.img', odd), hasQemuNbd)).toBe('nbdkit file file=d.img');
  });
});

describe('image server', () => {
  it.each<[string, Plan, string]>([
    [
      'a raw file',
      plan('d.img'),
      qemu('--persistent --discard=unmap', { driver: 'raw', file: file('d.img') }),
    ],
    [
      'a vhd',
      plan('d.vhd', { format: 'vhd', readOnly: true }),
      qemu('--persistent --read-only', { driver: 'vpc', file: file('d.vhd') }),
    ],
    [
      'a qcow2 that names nothing',
      plan('d.qcow2', { format: 'qcow2' }),
      qemu('--persistent --discard=unmap', { driver: 'qcow2', file: file('d.qcow2'), backing: null }),
    ],
    [
      'an overlay',
      plan('d.img', { overlay: 'temporary' }),
      qemu('--persistent --discard=unmap --snapshot', { driver: 'raw', file: file('d.img') }),
    ],
    [
      'a kept overlay',
      plan('d.img', { overlay: { path: '/o' } }),
      qemu('--persistent --discard=unmap', {
        driver: 'qcow2',
        file: file('/o'),
        backing: { driver: 'raw', file: file('d.img') },
      }),
    ],
    [
      'a snapshot',
      plan('d.qcow2', { format: 'qcow2', snapshotName: 'a,b' }),
      qemu('--persistent --read-only --load-snapshot=snapshot.name=a,,b', {
        driver: 'qcow2',
        file: file('d.qcow2'),
        backing: null,
      }),
    ],
    [
      'a partition',
      plan('d,1.qcow2', { format: 'qcow2', partition: PART }),
      qemu('--persistent --discard=unmap', {
        ...PART_OF,
        file: { driver: 'qcow2', file: file('d,1.qcow2'), backing: null },
      }),
    ],
    [
      'a device',
      plan('/dev/sda', { isDevice: true, partition: PART, readOnly: true }),
      qemu('--persistent --read-only', {
        ...PART_OF,
        file: { driver: 'raw', file: { driver: 'host_device', filename: '/dev/sda' } },
      }),
    ],
    [
      'a URL',
      plan('https://h/d.img', { readOnly: true, version: '"tag"' }),
      `${CHUNKS} --coding=plain --source=https://h/d.img '--version="tag"' --connections=8 -- nbdkit --readonly curl url=https://h/d.img`,
    ],
    [
      'a URL with a weak tag',
      plan('https://h/d.img', { readOnly: true, version: 'W/1' }),
      `${CHUNKS} --coding=plain --source=https://h/d.img --version=W/1 --weak-version --connections=8 -- nbdkit --readonly curl url=https://h/d.img`,
    ],
    [
      'a packed URL',
      plan('https://h/d.xz', { readOnly: true, compression: 'xz', partition: PART }),
      `${CHUNKS} --coding=xz --part=1048576+4096 --source=https://h/d.xz --connections=8 -- nbdkit --readonly curl url=https://h/d.xz`,
    ],
    [
      'a partition of a file in a packed archive',
      plan('/d.tgz', { compression: 'gzip', member: { offset: 512n, size: 2_000_000n }, partition: PART }),
      `${CHUNKS} --coding=gzip --part=1049088+4096 --source=/d.tgz --file=/d.tgz`.replace(' --writable', ''),
    ],
    [
      'a deflated file in an archive',
      plan('/d.zip', {
        readOnly: true,
        compression: 'deflate',
        check: { crcs: [7, 8], size: 9000 },
        range: { offset: 99n, size: 5000n },
      }),
      `${CHUNKS} --coding=deflate --check=7+8+9000 --range=99+5000 --source=/d.zip --file=/d.zip`,
    ],
    ['a file behind ssh', plan('sftp://me@h:2222/~/d.img'), 'nbdkit ssh host=h path=d.img port=2222 user=me'],
    [
      'a file behind ssh that is read only',
      plan('sftp://h/d.img', { readOnly: true }),
      `${CHUNKS} --coding=plain --source=sftp://h/d.img -- nbdkit --readonly ssh host=h path=/d.img`,
    ],
    [
      'a qcow2 at a URL',
      plan('https://h/d.qcow2?token=secret', { readOnly: true, format: 'qcow2' }),
      `${CHUNKS} --coding=plain '--source=https://h/d.qcow2?sha256=${HASH}' ${quoted(
        `--run=${below('--persistent --read-only', { driver: 'qcow2', file: SOCKET, backing: null })}`,
      )} --connections=8 -- nbdkit --readonly curl 'url=https://h/d.qcow2?token=secret'`,
    ],
    [
      'a packed file with an overlay that is kept',
      plan('/d.xz', { compression: 'xz', overlay: { path: '/my $o' } }),
      `${CHUNKS} --coding=xz --source=/d.xz ${quoted(
        `--run=cd "\${unixsocket%/*}" && LISTEN_PID=$$ LISTEN_FDS=1 exec ${qemu(
          '--persistent --discard=unmap',
          {
            driver: 'qcow2',
            file: file('/my $o'),
          },
        )}`,
      )} --file=/d.xz`,
    ],
    [
      'a partition of an NBD server',
      plan('nbd://[::1]:7/a%20b', { partition: PART }),
      qemu('--persistent --discard=unmap', {
        ...PART_OF,
        file: {
          driver: 'raw',
          file: { driver: 'nbd', server: { type: 'inet', host: '::1', port: '7' }, export: 'a b' },
        },
      }),
    ],
    [
      'a vmdk in several files',
      plan('d.vmdk', { format: 'vmdk', tree: { node: descriptorNode(), descriptor: 'text\n', files: [] } }),
      `${UNDER} data 'raw=text\n' size=10240 --run ${quoted(
        below('--persistent --discard=unmap', { driver: 'vmdk', file: SOCKET, backing: null }),
      )}`,
    ],
  ])('for %s', (_, one, expected) => {
    expect(line(one)).toBe(expected);
  });

  it('of a raw file without qemu-nbd is nbdkit', () => {
    expect(line(plan('d.img', { partition: PART }), false)).toBe(
      'nbdkit --filter=offset file file=d.img offset=1048576 range=4096',
    );
    expect(programsFor(plan('d.img'), false)).toEqual(['nbdkit']);
    expect(programsFor(plan('d.img', { overlay: 'temporary' }), false)).toEqual(['qemu-nbd']);
  });

  it('says that qemu-nbd cannot reach a socket with a path beyond 107 bytes', () => {
    const at = (length: number): Plan =>
      plan(`nbd+unix:///x?socket=${'/s'.padEnd(length, 's')}`, { partition: PART });
    expect(line(at(107))).toContain('qemu-nbd');
    expect(() => line(at(108))).toThrow(
      /cannot reach the socket \/s+: its path is longer than 107 bytes; make a symbolic link/,
    );
  });

  it.each(['nbds://h/x', 'nbd+vsock://2/x', 'nbd+ssh://h/x'])('has no partition for %s', (uri) => {
    expect(() => line(plan(uri, { partition: PART }))).toThrow(/nbd:\/\/ and nbd\+unix:\/\/ servers only/);
  });
});

describe('image sandbox', () => {
  /** The arguments before the program, without the launcher's path. */
  const allowed = (one: Plan): string => {
    const words = serverWords({ ...one, isConfined: true }, true);
    return words.slice(2, words.indexOf('--') + 2).join(' ');
  };
  const files = [
    { path: '/d', isTop: true },
    { path: '/base', isTop: false },
  ];
  const tree = { node: { driver: 'raw' }, descriptor: undefined, files };

  it.each<[string, Partial<Plan>, string]>([
    ['an image', {}, '-r /base -w /d -- qemu-nbd'],
    ['one that is read only', { readOnly: true }, '-r /d -r /base -- qemu-nbd'],
    ['a snapshot', { snapshotName: 's' }, '-r /d -r /base -- qemu-nbd'],
    ['an overlay', { overlay: 'temporary' }, '-t -r /d -r /base -- qemu-nbd'],
    ['one that is kept', { overlay: { path: '/o' } }, '-r /d -r /base -w /o -- qemu-nbd'],
    ['an NBD server', { source: parseSource('nbd://h/x'), tree: undefined }, '-n -- qemu-nbd'],
    ['one behind a socket', { source: parseSource('nbd+unix:///?socket=s'), tree: undefined }, '-- qemu-nbd'],
  ])('allows the files of %s, and no others', (_, rest, expected) => {
    expect(allowed(plan('d', { tree, ...rest }))).toBe(expected);
  });

  it('is one for each of a packed image’s two servers', () => {
    const chunks = { cacheFile: '/cache', trace: '/trace' };
    const one = plan('/d.gz', { compression: 'gzip', format: 'qcow2', readOnly: true, chunks });
    expect(allowed(one)).toBe(
      `-p -s -r ${LAUNCHER} -r /d.gz -w /cache -w /cache.index -w /trace -- ${process.execPath}`,
    );
    expect(serverWords({ ...one, isConfined: true }, true).at(-2)).toMatch(
      /^--run=.* exec perl \S*confine\.pl -- qemu-nbd /,
    );
  });

  it('exists for the qemu-nbd on top of a download, but not for the download', () => {
    const one = plan('https://h/d.qcow2', { format: 'qcow2', readOnly: true, isConfined: true });
    const words = serverWords(one, true);
    expect(words[0]).toBe(process.execPath);
    expect(words.find((word) => word.startsWith('--run='))).toMatch(/ exec perl \S*confine\.pl -- qemu-nbd /);
  });
});

describe('cache of an image', () => {
  const chunks = { cacheFile: '/c', cacheSize: 2 ** 30, prefetch: Number.POSITIVE_INFINITY };
  const words = '--cache-file=/c --cache-size=1073741824 --prefetch=';

  it('lies below QEMU where the chunk server has the bytes anyway', () => {
    expect(line(plan('https://h/d.qcow2', { format: 'qcow2', readOnly: true, chunks }))).toContain(
      ` --source=https://h/d.qcow2 ${words} '--run=`,
    );
  });

  it('lies on top of the server of a local image, and of an NBD server', () => {
    expect(line(plan('/d.qcow2', { format: 'qcow2', chunks }))).toBe(
      `${CHUNKS} --coding=plain --source=/d.qcow2 ${words} --writable -- ${line(plan('/d.qcow2', { format: 'qcow2' }))}`,
    );
    expect(line(plan('nbds://h/x', { partition: PART, readOnly: true, chunks }))).toBe(
      `${CHUNKS} --coding=plain --part=1048576+4096 --source=nbds://h/x ${words} --nbd=nbds://h/x`,
    );
  });

  it('needs no server where there is only a limit of the memory', () => {
    expect(line(plan('/d.img', { chunks: { cacheMemory: 2 ** 26 } }))).toBe(line(plan('/d.img')));
  });
});

describe('image source', () => {
  it.each([
    ['disk.img', 'file', 'disk.img'],
    ['a:b', 'file', 'a:b'],
    ['./nbd:x', 'file', 'nbd:x'],
    ['file:///srv/my%20disk.raw', 'file', 'my disk.raw'],
    ['HTTPS://h/dir/disk.xz?x=y.qcow2', 'web', 'disk.xz'],
    ['ftp://h/disk', 'web', 'disk'],
    ['ssh://h/srv/disk.qcow2', 'ssh', 'disk.qcow2'],
    ['nbd://h/disk.qcow2', 'nbd', ''],
  ])('%s is a %s called %s', (word, kind, name) => {
    const source = parseSource(word);
    expect([source.kind, nameOf(source)]).toEqual([kind, name]);
  });

  it.each([
    ['ssh://-oProxyCommand=x/d', /must be ssh:/],
    ['ssh://h', /must be ssh:/],
    ['ssh://h%20;x/d', /is not a URL|must be ssh:/],
    ['ssh://u:secret@h/d', /a password in an ssh:\/\/ URL is visible/],
    ['ssh://-x@h/d', /-x is not a valid user name/],
    ['ssh://a%60id%60@h/d', /is not a valid user name/],
    ['file://host/d', /must be file:\/\/\/PATH/],
    ['ssh://h/%zz', /is not percent-encoded UTF-8/],
    ['https://', /is not a URL/],
    ['gopher://h/d', /the scheme gopher is unknown/],
  ])('%s fails', (word, message) => {
    expect(() => parseSource(word)).toThrow(message);
  });
});

it('quote: a shell reads the same word again, and nothing in it acts on a terminal', async () => {
  const words = [
    'a b',
    "it's",
    '$HOME `id` "x"',
    '',
    '=ls',
    '~',
    '*',
    'two\nlines',
    '\x1b[31m\t\x7f\u009b\r',
    'a\u202eb\u2028',
    'é',
  ];
  const line = shellLine(words);
  expect(line.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
  for (const shell of ['sh', 'bash', 'zsh']) {
    expect(await runProgram(shell, '-c', `printf '%s\\0' ${line}`)).toBe(`${words.join('\0')}\0`);
  }
});
