// Images on web servers that break a rule of HTTP, fail, or want a password: each mounts with the right bytes, or is
// refused in one line with the next step.

import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import {
  type FaultyWebServer,
  startFaultyWebServer,
  type WebFault,
} from '../../support/faulty-web-server.js';
import { readAt } from '../../support/files.js';
import { hashOf } from '../../support/images.js';
import { makePki } from '../../support/run/certificates.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { descendant, descendants } from '../../support/run/descendants.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img', 'getfattr', 'certtool', 'unshare');
requireRoot();

const FILE = randomBytes(1024 * 1024);
const HASH = createHash('sha256').update(FILE).digest('hex');

/** Longest message: two lines of a wide terminal. */
const TWO_LINES = 360;

/** The command line of an nbdkit. */
const NBDKIT = /^\S*nbdkit /;

const DOWNLOAD = 'download the file (curl -O), and mount that';

/** A fault of the answers to requests for a range that does not begin at 0. */
const later =
  (fault: WebFault): WebFault =>
  (answer, request, file) =>
    (request.first ?? 0) > 0 ? fault(answer, request, file) : undefined;

const status =
  (code: number, method = ''): WebFault =>
  (answer, request) => {
    if (request.method.includes(method)) answer.status = code;
  };

/** Sets a header of each answer; undefined removes it. */
const header =
  (name: string, value: string | undefined): WebFault =>
  ({ headers }) => {
    headers[name] = value;
  };

/** Exchanges the body of each answer. */
const body =
  (make: (right: Buffer) => Buffer): WebFault =>
  (answer) => {
    answer.body = make(answer.body);
  };

const whole: WebFault = (answer, { first }, file) => {
  if (first === undefined) return;
  answer.status = 200;
  answer.headers['Content-Range'] = undefined;
  answer.body = file;
};

const REFUSED: readonly (readonly [string, WebFault, string])[] = [
  [
    'answers every range with the whole file',
    whole,
    'nbdfuse: https://host/disk.img: the web server cannot serve parts of the file: it answers a request for bytes 0 to 65536 with the whole file (status 200 OK); download the file (curl -O), and mount that\n',
  ],
  ['answers only later ranges with the whole file', later(whole), 'with the whole file (status 200 OK)'],
  ['names another range', later(header('Content-Range', 'bytes 0-9/1048576')), 'with "bytes 0-9/1048576"'],
  ['names no range', later(header('Content-Range', undefined)), 'with no Content-Range'],
  [
    'sends the first bytes for each range',
    later(body(({ length }) => FILE.subarray(0, length))),
    'it gives other bytes for the place 32768 when a request begins there',
  ],
  [
    'sends fewer bytes than it names',
    later(body((right) => right.subarray(100))),
    `fewer bytes than a request for a range needs; nbdkit: `,
  ],
  [
    'names two sizes',
    later(({ headers }) => {
      headers['Content-Range'] = String(headers['Content-Range']).replace(/.$/, '7');
    }),
    'it gives two sizes for the file, 1048576 and 1048577 bytes',
  ],
  [
    'changes the file',
    ({ headers }, { count }) => {
      headers.ETag = `"${count}"`;
    },
    'the file changes while nbdfuse reads it',
  ],
  ['compresses', header('Content-Encoding', 'br'), 'Content-Encoding: br'],
  ['says that the file is empty', body(() => Buffer.alloc(0)), 'the file is empty; check the URL'],
  [
    'does not say the length',
    ({ headers }) => {
      Object.assign(headers, { 'Transfer-Encoding': 'chunked', 'Content-Length': undefined });
    },
    `nbdkit: could not get length of remote file, is the URL correct?; ${DOWNLOAD}`,
  ],
  [
    'knows no ranges',
    header('Accept-Ranges', undefined),
    `nbdkit: server does not support 'range' (byte range) requests; ${DOWNLOAD}`,
  ],
  [
    'refuses HEAD, as for a URL presigned for GET',
    status(403, 'HEAD'),
    'nbdfuse: cannot read https://host/disk.img: the web server answers HEAD with 403 Forbidden; nbdkit: The requested URL returned error: 403; a URL presigned for GET refuses HEAD: use nbdkit 1.36 or newer, or download the file (curl -O), and mount that\n',
  ],
  ['does not know HEAD', status(405, 'HEAD'), 'HEAD with 405 Method Not Allowed; nbdkit: '],
  ['wants a password', status(401), 'write a user and a password before the host, USER:PASSWORD@HOST'],
  ['refuses GET', status(403, 'GET'), 'answers GET with 403 Forbidden; nbdkit: '],
  ['has no such file', status(404), '404; check the URL'],
  ['refuses a range', later(status(416)), `416 Range Not Satisfiable; nbdkit: `],
  [
    'is overloaded for long',
    status(503),
    'the web server answers HEAD with 503 Service Unavailable; nbdkit: ',
  ],
  ['closes each connection', () => 'drop', 'Empty reply from server; try again later'],
];

/** A fault of the first request that has a condition. */
function onFirstCondition(fault: WebFault): WebFault {
  let isOver = false;
  return (answer, request, file) => {
    if (isOver || request.headers['if-match'] === undefined) return undefined;
    isOver = true;
    return fault(answer, request, file);
  };
}

describe('image on a web server', () => {
  it.each(REFUSED)('that %s is refused', async (_, fault, why) => {
    const scope = createScope();
    const web = await startFaultyWebServer(scope, FILE, fault);
    const program = startNbdfuse(scope, [scope.path('mnt'), web.url]);
    expect(await program.ended).toBe(1);
    expect(program.stderr.replace(web.url, 'https://host/disk.img')).toContain(why);
    expect(program.stderr).toMatch(/^nbdfuse: [^\n]*\n$/);
    expect(program.stderr.length).toBeLessThan(TWO_LINES);
  });

  const MOUNTED: readonly (readonly [string, WebFault])[] = [
    [
      'without ETag and date',
      ({ headers }) => Object.assign(headers, { ETag: undefined, 'Last-Modified': undefined }),
    ],
    ['with a weak ETag', header('ETag', 'W/"a"')],
    [
      'that always refuses conditions',
      (answer, { headers }) => {
        if (headers['if-match'] !== undefined) answer.status = 412;
      },
    ],
    [
      'that fails each seventh request',
      (answer, { count }) => {
        if (count % 7 === 1) answer.status = 503;
      },
    ],
    ['that drops each seventh connection', (_, { count }) => (count % 7 === 1 ? 'drop' : undefined)],
    [
      'that redirects',
      (answer, { url }) => {
        if (url.startsWith('/real')) return;
        Object.assign(answer, {
          status: 302,
          headers: { Location: '/real.img' },
          body: Buffer.from('moved'),
        });
      },
    ],
  ];

  it.each(MOUNTED)('%s mounts with the right bytes', async (_, fault) => {
    const scope = createScope();
    const web = await startFaultyWebServer(scope, FILE, fault);
    const disk = await mountDisk(scope, { server: [web.url] });
    expect(await hashOf(disk.file)).toBe(HASH);
    expect(await disk.stop()).toBe(0);
  });

  it.each([
    ['a disk with name.img', 'a%20disk%20with%20name.img'],
    ['bücher/disk.img', 'b%C3%BCcher/disk.img'],
  ])('the path %s is encoded', async (typed, path) => {
    const scope = createScope();
    const web = await startFaultyWebServer(scope, FILE, undefined, '');
    const disk = await mountDisk(scope, { server: [web.url + typed] });
    expect(await hashOf(disk.file)).toBe(HASH);
    expect(web.requests[0].url).toBe(`/${path}`);
  });
});

/** The authority of $2 in the system's list, in a mount namespace of its own. */
const WITH_AUTHORITY = `
set -e
# The mounts of other tests are in this namespace, too.
umount -a -i -l -t fuse.nbdfuse
cd "$1"
cat /etc/ssl/certs/ca-certificates.crt "$2/ca-cert.pem" >authorities
mount --bind authorities /etc/ssl/certs/ca-certificates.crt
mkdir mnt
"$3" "$4" --daemon mnt "$5"
sha256sum <mnt/nbd
"$3" "$4" --unmount mnt`;

describe('image on a web server with TLS', () => {
  it('a certificate of the system’s authorities is enough', async () => {
    const scope = createScope();
    const pki = makePki(scope.path('pki'));
    const web = await startFaultyWebServer(scope, FILE, undefined, 'disk.img', pki);
    const words = ['-m', '--propagation', 'private', 'sh', '-c', WITH_AUTHORITY, 'sh', scope.folder, pki];
    const { stdout, stderr } = await tryProgram('unshare', ...words, process.execPath, NBDFUSE, web.url);
    expect(stderr).toBe(`nbdfuse: ${web.url} is raw; serving it with nbdfuse-chunks and nbdkit\n`);
    expect(stdout).toBe(`${HASH}  -\n`);
  });

  it('an unknown authority is refused, with the next step', async () => {
    const scope = createScope();
    const web = await startFaultyWebServer(scope, FILE, undefined, 'disk.img', makePki(scope.path('pki')));
    const program = startNbdfuse(scope, [scope.path('mnt'), web.url]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(
      /certificate verification failed[^\n]*; [^\n]*update-ca-certificates\)\n$/,
    );
  });
});

describe('mounted image on a web server', () => {
  it('a message about two servers names nbdkit', async () => {
    const scope = createScope();
    const image = createQcow2(scope.path('disk.qcow2'), '1M');
    const web = await startFaultyWebServer(scope, readFileSync(image), undefined, 'disk.qcow2');
    const disk = await mountDisk(scope, { server: [web.url] });
    process.kill((await descendant(disk.program.pid, NBDKIT)).pid, 'SIGKILL');
    await disk.program.says(/the server is lost: [^\n]*nbdkit was killed by SIGKILL/);
  });

  it.each<[string, WebFault, string]>([
    ['fails', status(503), '503'],
    ['closes connections', () => 'drop', 'Empty reply'],
  ])('a read is repeated while the web server %s', async (_, fault, said) => {
    const scope = createScope();
    const web = await startFaultyWebServer(scope, FILE);
    const disk = await mountDisk(scope, { server: [web.url], options: ['--cache=none'] });
    let left = 2;
    web.fault = (...parts) => (left-- > 0 ? fault(...parts) : undefined);
    const bytes = await readAt(disk.file, 500_000, 4096);
    expect(bytes.equals(FILE.subarray(500_000, 504_096))).toBe(true);
    expect(disk.stderr).toContain(said);
  });

  /** Faults of the first answer to a condition, which do not refuse it. */
  const CHANGING: readonly (readonly [string, WebFault | undefined])[] = [
    ['', undefined],
    [' whose server is busy at the first condition', onFirstCondition((answer) => (answer.status = 503))],
    [' whose server drops the connection of the first condition', onFirstCondition(() => 'drop')],
    [
      ' whose server allows one request at a time',
      (answer, { headers, count }) => {
        if (headers['if-match'] !== undefined && count < 4) answer.status = 429;
      },
    ],
  ];

  it.each(CHANGING)('a file that changes%s gives EIO, never bytes of both', async (_, fault) => {
    const scope = createScope();
    const web = await startFaultyWebServer(scope, FILE, fault);
    const disk = await mountDisk(scope, { server: [web.url], options: ['--cache=none'] });
    web.file = randomBytes(FILE.length);
    web.fault = (answer, { headers }) => {
      if (headers['if-match'] === '"a-1"') answer.status = 412;
    };
    const file = await open(disk.file);
    scope.add(() => file.close());
    await expect(file.read(Buffer.alloc(4096), 0, 4096, 500_000)).rejects.toMatchObject({ code: 'EIO' });
    expect(disk.stderr).toContain('error: 412');
  });
});

/** A server that answers only with this password and token. */
async function startGuarded(scope: Scope): Promise<FaultyWebServer> {
  const right = `Basic ${Buffer.from('me:s3cret p%').toString('base64')}`;
  const fault: WebFault = (answer, { headers, url }) => {
    if (headers.authorization !== right || !url.endsWith('?sig=t0ken')) answer.status = 401;
  };
  return startFaultyWebServer(scope, FILE, fault);
}

const withPassword = ({ url }: FaultyWebServer): string =>
  `${url.replace('//', '//me:s3cret%20p%25@')}?sig=t0ken`;

describe('password and token in a URL', () => {
  it('no message, status, attribute or command line shows them; nbdkit needs the token', async () => {
    const scope = createScope();
    const web = await startGuarded(scope);
    const disk = await mountDisk(scope, { server: [withPassword(web)] });
    expect(await hashOf(disk.file)).toBe(HASH);
    expect(disk.stderr).toBe(`nbdfuse: ${web.url}?sig=… is raw; serving it with nbdfuse-chunks and nbdkit\n`);
    const shown = [
      await runProgram('node', NBDFUSE, '--status', disk.mountpoint),
      await runProgram('node', NBDFUSE, '--status', '--json', disk.mountpoint),
      await runProgram('getfattr', '-d', '-m', '-', disk.file),
      readFileSync('/proc/self/mountinfo', 'utf8'),
      readFileSync(`/proc/${disk.program.pid}/cmdline`, 'utf8'),
    ].join('\n');
    expect(shown).toContain('sig=…');
    expect(shown).not.toMatch(/s3cret|t0ken/);
    const children = await descendants(disk.program.pid);
    expect(children).toHaveLength(2);
    for (const { args } of children) {
      expect(args).toContain('password=+/proc/');
      expect(args).not.toContain('s3cret');
      expect(args.includes('t0ken')).toBe(NBDKIT.test(args));
    }
    expect(await disk.stop()).toBe(0);
  });

  it('the server can be restarted', async () => {
    const scope = createScope();
    const web = await startGuarded(scope);
    const disk = await mountDisk(scope, {
      server: [withPassword(web)],
      options: ['--restart', '--cache=none'],
    });
    const { pid } = await descendant(disk.program.pid, NBDKIT);
    process.kill(pid, 'SIGKILL');
    expect((await readAt(disk.file, 4096, 4096)).equals(FILE.subarray(4096, 8192))).toBe(true);
  });

  it('--print-command hides them, and names a file for the password', async () => {
    const scope = createScope();
    const web = await startGuarded(scope);
    const words = ['--print-command', scope.path('mnt'), withPassword(web)];
    const line = await runProgram('node', NBDFUSE, ...words);
    expect(line).not.toMatch(/s3cret|t0ken/);
    expect(line).toContain(`'url=${web.url}?sig=…' user=me password=+PASSWORD-FILE`);
  });

  it('a refusal hides them', async () => {
    const scope = createScope();
    const web = await startFaultyWebServer(scope, FILE, status(404));
    for (const url of [
      withPassword(web),
      'https://me:s3cret/p@127.0.0.1/d',
      's3://me:s3cret@bucket/d?x=t0ken',
    ]) {
      const program = startNbdfuse(scope, [scope.path('mnt'), url]);
      expect(await program.ended).toBe(1);
      expect(program.stderr).toMatch(/^nbdfuse: [^\n]*\n$/);
      expect(program.stderr).not.toMatch(/s3cret|t0ken/);
    }
  });
});
