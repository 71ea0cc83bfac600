// The bash completion as a person meets it: in an interactive bash, with a key.

import { mkdirSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { completionScript } from '../../../src/cli/arguments/completion.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { mountDisk } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('bash', 'script', 'nbdkit');

const SETUP = `PS1=; cd "$FOLDER"; source ./script; bind 'set bell-style none' 2>/dev/null
nbdfuse() { printf '<%s' "$#" "$@"; echo '>'; }; nbdsh() { nbdfuse "$@"; }; echo rea''dy
`;

/** Types a line, a program and a beginning, and a tab; returns the arguments of the program. */
type Type = (typed: string, program?: string) => Promise<readonly string[]>;

/** Starts an interactive bash in the folder of a scope. */
async function startBash(scope: Scope): Promise<Type> {
  writeFileSync(scope.path('script'), completionScript('bash'));
  const env = { FOLDER: scope.folder, TERM: 'dumb', INPUTRC: '/dev/null', HISTFILE: '/dev/null' };
  const program = new Program(scope, 'script', ['-qfec', 'bash --norc --noprofile -i', '/dev/null'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env,
  });
  program.child.stdin?.write(SETUP);
  await program.says(/^ready/m);
  return async (typed, name = 'nbdfuse') => {
    const before = program.stdout.length;
    program.child.stdin?.write(`${name} ${typed}\t\n`);
    const answer = (): RegExpExecArray | null => /^<\d+(?:<([^>]*))?>/m.exec(program.stdout.slice(before));
    while (answer() === null) await program.says(new RegExp(`[^]{${before}}[^]*^<\\d+.*>`, 'm'));
    return (answer()?.[1] ?? '').split('<');
  };
}

const TYPED: readonly (readonly [string, readonly string[]])[] = [
  ['--cache=writeb', ['--cache=writeback']],
  ['--cache writeb', ['--cache', 'writeback']],
  ['--log-format=j', ['--log-format=json']],
  ['--unmo', ['--unmount']],
  ['--pidfile=my', ['--pidfile=my file']],
  ['--overlay=my', ['--overlay=my file']],
  ['--pidfile my', ['--pidfile', 'my file']],
  ['my', ['my file']],
  [String.raw`my\ f`, ['my file']],
  ['"my f', ['my file']],
  ['dir my', ['dir', 'my file']],
  ['dir nbd:', ['dir', 'nbd://']],
  ['dir nbd:/', ['dir', 'nbd://']],
  ['dir nbds', ['dir', 'nbds://']],
  ['--list nbd+v', ['--list', 'nbd+vsock://']],
  ['--list --sys', ['--list', '--systemd-socket-activation']],
  ['-r --cache=none dir --uni', ['-r', '--cache=none', 'dir', '--unix']],
  ['dir [ nbdkit my', ['dir', '[', 'nbdkit', 'my file']],
  ['cache verify my', ['cache', 'verify', 'my file']],
  ['-o allow_o', ['-o', 'allow_other']],
  ['-o ro,noat', ['-o', 'ro,noatime']],
  ['-o ro,max_rea', ['-o', 'ro,max_read']],
  ['--cache-dir=di', ['--cache-dir=dir/']],
  ['--cache-dir my', ['--cache-dir', 'my']],
  ['--metrics=u', ['--metrics=unix:']],
  ['--metrics=unix:my', ['--metrics=unix:my file']],
  ['--metrics unix:my', ['--metrics', 'unix:my file']],
  ['--reconnect=f', ['--reconnect=forever']],
  ['--trace my', ['--trace', 'my file']],
  ['--connections m', ['--connections', 'm']],
  ['dir --uri nbd+v', ['dir', '--uri', 'nbd+vsock://']],
  ['dir --unix my', ['dir', '--unix', 'my file']],
];

const TYPED_IN_NBDSH: typeof TYPED = [
  ['--comm', ['--command']],
  ['-u nbd+v', ['-u', 'nbd+vsock://']],
  ['--uri=nbds', ['--uri=nbds://']],
  ["-u nbd://host -c 'h.size' --ver", ['-u', 'nbd://host', '-c', 'h.size', '--version']],
  ['-c my', ['-c', 'my']],
];

it('bash completion: completes values after =, names with blanks, and URIs', async () => {
  const scope = createScope();
  writeFileSync(scope.path('my file'), '');
  mkdirSync(scope.path('dir'));
  const type = await startBash(scope);
  for (const [typed, words] of TYPED) expect([typed, await type(typed)]).toEqual([typed, words]);
});

it('bash completion: completes the options of nbdsh and their values', async () => {
  const scope = createScope();
  writeFileSync(scope.path('my file'), '');
  const type = await startBash(scope);
  for (const [typed, words] of TYPED_IN_NBDSH)
    expect([typed, await type(typed, 'nbdsh')]).toEqual([typed, words]);
});

it('bash completion: offers only mountpoints to --unmount and --status', async () => {
  const scope = createScope();
  writeFileSync(scope.path('mnz'), '');
  const server = ['[', 'nbdkit', 'null', '1M', ']'];
  await mountDisk(scope, { server });
  await mountDisk(scope, { server, options: ['-o', 'subtype=other', '-o', 'ro'], name: 'renamed' });
  const type = await startBash(scope);
  expect(await type('--unmount m')).toEqual(['--unmount', 'mnt']);
  expect(await type('--status --json m')).toEqual(['--status', '--json', 'mnt']);
  expect(await type(`--unmount ${scope.folder}/m`)).toEqual(['--unmount', scope.path('mnt')]);
  expect(await type('--unmount mnz')).toEqual(['--unmount', 'mnz']);
  expect(await type('--unmount r')).toEqual(['--unmount', 'renamed']);
});
