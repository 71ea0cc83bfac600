// A mount that covers the directory of the program, or files that the session needs later.

import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { tryProgram } from '../../support/run/command.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow } from '../../support/run/scope.js';

requirePrograms('nbdkit', 'qemu-nbd', 'fusermount3', 'umount', 'cmp', 'setsid');

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Copies the program into `checkout` of the scope, as npm installs it. */
function copyProgram(scope: Scope): void {
  const copy = (name: string): void =>
    cpSync(ROOT + name, scope.path('checkout', name), { recursive: true, dereference: true });
  for (const name of ['bin', 'dist/program', 'packaging', 'package.json']) copy(name);
  for (const name of ['koffi', '@koromix', 'commander']) copy(`node_modules/${name}`);
  mkdirSync(scope.path('checkout', 'node_modules', '.bin'));
  writeFileSync(scope.path('checkout', 'disk.img'), Buffer.alloc(1024 * 1024, 7));
}

/**
 * Shell lines in `checkout`, which stays the current directory below the mount. `gone` waits for the end of a process;
 * PATH is that of npx until the mount is there: a lookup below the mount would keep it busy. `serve` starts a server on a socket below the mount; `lost` kills it and waits until nbdfuse has noticed.
 */
const PRELUDE = `cd "$1/checkout"; exec 2>"$1/said"
SYSTEM=/usr/sbin:/usr/bin:/sbin:/bin PATH=$PWD/node_modules/.bin:bin:$PATH
pid() { while [ ! -s "$OUT/pid" ]; do sleep 0.05; done; cat "$OUT/pid"; }
gone() { while [ "$(ps -o stat= -p "$1" | cut -c1)" != "" ] && [ "$(ps -o stat= -p "$1" | cut -c1)" != Z ]; do sleep 0.05; done; }
hears() { while ! grep -q "$1" "$OUT/said"; do sleep 0.05; done; }
serve() { rm -f "sock" "$OUT/server"; nbdkit -U "/proc/$$/cwd/sock" -P "$OUT/server" "$@"; }
lost() { kill -9 "$(cat "$OUT/server")"; hears 'is lost'; }
`;

async function run(scope: Scope, script: string): Promise<string> {
  copyProgram(scope);
  const lines = `OUT=$1; ${PRELUDE}${script}`;
  const { status, stdout } = await tryProgram('bash', '-c', lines, 'bash', scope.folder);
  const said = await tryProgram('cat', scope.path('said'));
  expect([
    status,
    said.stdout.replace(/^.*(the mount covers|is lost|reconnected|disk\.img is raw).*\n/gm, ''),
  ]).toEqual([0, '']);
  expect(await mountsBelow(scope.folder)).toEqual([]);
  return stdout;
}

const END: readonly (readonly [string, string])[] = [
  ['SIGTERM', 'kill -TERM $P'],
  ['SIGINT', 'kill -INT $P'],
  ['fusermount3', 'fusermount3 -u "$PWD"'],
];

describe.each(END)('covered program: in its own checkout, ended by %s', (_, end) => {
  it.each([
    ['in the background', 'bin/nbdfuse --daemon -P "$OUT/pid"'],
    ['in the foreground', 'bin/nbdfuse -P "$OUT/pid"'],
    ['with read threads', 'bin/nbdfuse --threads=3 -P "$OUT/pid"'],
  ])('serves and unmounts %s', async (name, command) => {
    const isDaemon = name === 'in the background';
    const script = `serve memory 4M
      ${command} ./disk.raw --unix sock ${isDaemon ? '' : '&'}
      P=$(pid); PATH=$SYSTEM; stat -c %s "$PWD/disk.raw"
      dd if=/dev/zero of="$PWD/disk.raw" bs=64k count=8 conv=notrunc,fsync status=none
      cat "$PWD/disk.raw" | wc -c
      ${end}; gone $P; kill "$(cat "$OUT/server")"; ls "$PWD/bin"`;
    expect(await run(createScope(), script)).toBe(
      ['4194304', '4194304', ...readdirSync(`${ROOT}bin`), ''].join('\n'),
    );
  });
});

describe('covered program', () => {
  it.each([
    ['relative, in the background', '--daemon', 'sock'],
    ['absolute, in the background', '--daemon', '$PWD/sock'],
    ['relative, in the foreground', '', 'sock'],
    ['absolute, in the foreground', '', '$PWD/sock'],
  ])('reconnects to a socket that is covered: %s', async (_, daemon, socket) => {
    const script = `serve memory 4M
      bin/nbdfuse ${daemon} -P "$OUT/pid" . --unix "${socket}" ${daemon === '' ? '&' : ''}
      P=$(pid); PATH=$SYSTEM; lost; serve memory 4M; hears reconnected
      cat "$PWD/nbd" | wc -c
      kill $P; gone $P; kill "$(cat "$OUT/server")"`;
    expect(await run(createScope(), script)).toBe('4194304\n');
  });

  it('serves an image that is covered', async () => {
    const script = `bin/nbdfuse --daemon -P "$OUT/pid" . disk.img
      P=$(pid); PATH=$SYSTEM; cmp disk.img "$PWD/nbd" && echo same; kill $P; gone $P`;
    expect(await run(createScope(), script)).toBe('same\n');
  });

  it('writes its pidfile below the mount, and removes it', async () => {
    const script = `bin/nbdfuse --daemon -P pid . [ nbdkit memory 1M ]
      P=$(cat pid); PATH=$SYSTEM; ls "$PWD"; kill $P; gone $P; ls pid 2>/dev/null`;
    const scope = createScope();
    expect(await run(scope, `${script}; true`)).toBe('nbd\n');
  });

  it('shows the exports of a server', async () => {
    const script = `mkdir "$OUT/exports"; cp disk.img "$OUT/exports/a"; serve file dir="$OUT/exports"
      bin/nbdfuse --daemon --all -P "$OUT/pid" . --unix sock
      P=$(pid); PATH=$SYSTEM; ls "$PWD"; cmp disk.img "$PWD/a" && echo same; ls "$PWD/none" 2>/dev/null
      kill $P; gone $P; kill "$(cat "$OUT/server")"`;
    expect(await run(createScope(), script)).toBe('a\nsame\n');
  });

  it.each([
    ['--restart', '. disk.img', 'the current directory'],
    ['--restart', '"$PWD" [ nbdkit file disk.img ]', 'the current directory'],
    ['--restart', 'inner [ nbdkit file file="$PWD/inner/disk.img" ]', 'file=.*disk.img'],
    ['--all', 'inner [ nbdkit file dir="$PWD/inner" ]', 'dir=.*'],
  ])('%s %s: refused, since the server could not be started again', async (option, words, named) => {
    const scope = createScope();
    copyProgram(scope);
    const lines = `cd "$1/checkout"; mkdir inner; bin/nbdfuse ${option} ${words}`;
    const { status, stderr } = await tryProgram('bash', '-c', lines, 'bash', scope.folder);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      new RegExp(
        `^(nbdfuse: disk.img is raw.*\\n)?nbdfuse: mountpoint .*: it covers .*${named}.*, without which the server cannot be started again; use a directory of its own\\n$`,
      ),
    );
    expect(await mountsBelow(scope.folder)).toEqual([]);
  });
});

it('--daemon: starts a server again in the directory where nbdfuse was started', async () => {
  const scope = createScope();
  const script = `cd "$1"; mkdir start mnt; cd start; head -c 1M /dev/urandom >disk.img
    "$2" "$3" --daemon --restart -P pid ../mnt [ sh -c 'exec nbdkit -f -P server file disk.img' ]
    cmp disk.img ../mnt/nbd && echo same; kill -9 "$(cat server)"
    cmp disk.img ../mnt/nbd && echo same; umount ../mnt`;
  const words = ['-c', script, 'sh', scope.folder, process.execPath, `${ROOT}bin/nbdfuse`];
  expect(await tryProgram('sh', ...words)).toEqual({ status: 0, stdout: 'same\nsame\n', stderr: '' });
});

it.each([
  ['a server on a socket', '--unix sock'],
  ['an image', '"$1/disk.img"'],
  ['a compressed image with a relative name', '../disk.img.xz'],
])('--daemon: the directory in which it was started is free, with %s', async (_, server) => {
  const scope = createScope();
  writeFileSync(scope.path('disk.img'), Buffer.alloc(4096, 7));
  const script = `cd "$1"; mkdir start mnt; xz -k disk.img; cd start; nbdkit -U "$1/start/sock" -P "$1/server" memory 4M
    "$2" "$3" --daemon -P pid ../mnt ${server} 2>"$1/said"; mv pid sock ..; cd ..
    for name in /proc/[0-9]*/cwd; do case $(readlink "$name") in "$1"/start) echo "busy: $name";; esac; done
    rmdir start; kill "$(cat "$1/server")"; umount mnt`;
  const words = ['-c', script, 'sh', scope.folder, process.execPath, `${ROOT}bin/nbdfuse`];
  expect(await tryProgram('sh', ...words)).toEqual({ status: 0, stdout: '', stderr: '' });
});
