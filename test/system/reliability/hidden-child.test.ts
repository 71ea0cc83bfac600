// A server whose child nbdfuse may not inspect: the child may have the connection, so the end of its parent is no proof.
//
// nbdfuse is root without SYS_PTRACE, as in a container: it may not see which files a process of another user has open.

import { chmodSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { mountDisk } from '../../support/run/mount.js';
import { Program, runWithin } from '../../support/run/program.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { uriOf } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requireRoot();
requirePrograms('nbdkit', 'perl', 'setpriv', 'dd');

const SIZE = 8 * 1024 * 1024;
const BLOCK = 65_536;
/** Seconds that the older write takes. */
const LATE = 8;

/**
 * Listens at the path $1, keeps each connection open, and lets a child of another user serve it: the other words are
 * those of nbdkit.
 */
const SERVER = `
use Socket;
my $path = shift;
unlink $path;
socket my $listener, PF_UNIX, SOCK_STREAM, 0 or die $!;
bind $listener, sockaddr_un($path) or die $!;
listen $listener, 16 or die $!;
$| = 1;
print "listening\\n";
my @kept;
while (accept my $connection, $listener) {
  push @kept, $connection;
  next if fork;
  open STDIN, '<&', $connection;
  open STDOUT, '>&', $connection;
  open STDERR, '>', '/dev/null';
  $( = 65534;
  $) = '65534 65534';
  $< = $> = 65534;
  exec 'nbdkit', '-s', @ARGV or die $!;
}`;

/** A prefix for root with these capabilities, and with those to change its user. */
function asRoot(...names: readonly string[]): string[] {
  const set = ['-all', ...['setuid', 'setgid', ...names].map((name) => `+${name}`)].join(',');
  return ['setpriv', `--bounding-set=${set}`, '--inh-caps=-all'];
}

/** The words of an nbdkit whose writes take some seconds, and that makes them even if the client has gone. */
function slowDisk(path: string, log: string, seconds: number): string[] {
  const dd = 'dd status=none bs=64k';
  return [
    'eval',
    `get_size=echo ${SIZE}`,
    `pread=${dd} if=${path} count=$3 skip=$4 iflag=skip_bytes,count_bytes`,
    `pwrite=echo begun >>${log}; sleep ${seconds}; ${dd} of=${path} seek=$4 oflag=seek_bytes conv=notrunc; echo done >>${log}`,
    'flush=true',
    'can_write=true',
    'can_flush=true',
  ];
}

/** An empty file that every user may write to. */
function openToAll(scope: Scope, name: string): string {
  const path = scope.path(name);
  writeFileSync(path, '');
  chmodSync(path, 0o666);
  return path;
}

it.each([
  ['list its files only', ['sys_admin', 'dac_override', 'dac_read_search']],
  ['not list its files', ['sys_admin']],
])(
  'hidden child: a newer write waits for the reply to the older one although the parent has ended; nbdfuse may %s',
  async (_, names) => {
    const scope = createScope();
    const [path, log] = [openToAll(scope, 'disk.raw'), openToAll(scope, 'log')];
    truncateSync(path, SIZE);
    const socket = scope.path('socket');
    const [setpriv, ...words] = [...asRoot(...names), 'perl', '-e', SERVER, socket];
    const start = async (...more: readonly string[]): Promise<Program> => {
      const server = new Program(scope, setpriv, [...words, ...more]);
      await server.says(/listening/);
      return server;
    };
    const server = await start(...slowDisk(path, log, LATE));
    const disk = await mountDisk(scope, {
      server: [uriOf({ path: socket })],
      options: ['--cache=none', '--timeout=2', '-C', '1'],
      prefix: asRoot(...names),
    });
    const write = (letter: string): string[] => {
      const from = scope.path(letter);
      writeFileSync(from, Buffer.alloc(BLOCK, letter));
      return ['dd', `if=${from}`, `of=${disk.file}`, `bs=${BLOCK}`, 'oflag=direct', 'conv=notrunc'];
    };
    const older = runWithin(scope, 30, write('A'));
    const logged = (line: string) => readFileSync(log, 'utf8').includes(line);
    await until('the older write to arrive', () => logged('begun'));
    await server.kill('SIGKILL');
    await start(...slowDisk(path, '/dev/null', 0));
    await older;
    // It has gone over a second connection; the first copy is still to come.
    expect(logged('done')).toBe(false);
    await runWithin(scope, 30, write('B'));
    await until('the first copy', () => logged('done'), 2000 * LATE);
    expect((await readFile(path)).subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
    expect(await disk.stop()).toBe(0);
  },
);
