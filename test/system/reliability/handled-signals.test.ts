// Signals that end most programs and that this one handles: a request that the server carries out never fails because
// of them, and a program that cleans up and exits is free again when the server stays silent.

import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { mountHanging, whenWaiting } from '../../support/hanging.js';
import { mountDisk } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';
import { type RequestHandler, startScriptedServer } from '../../support/scripted-server.js';
import { MULTI_CONN_FLAGS, VolatileDisk } from '../../support/volatile-disk.js';

requirePrograms('nbdkit', 'dd', 'perl', 'script', 'getfattr');

const MIB = 1024 * 1024;

/** Writes 64 KiB and flushes, with handlers that go on; prints the results and the signals. */
const GOES_ON = `
use POSIX; use IO::Handle; $| = 1; my @seen;
for my $name (qw(HUP INT QUIT TERM)) {
  no strict 'refs';
  my $handler = POSIX::SigAction->new(sub { push @seen, $name }, POSIX::SigSet->new, SA_RESTART);
  $handler->safe(1);
  sigaction(&{"POSIX::SIG$name"}, $handler);
}
open(my $file, '+<', $ARGV[0]) or die;
print "ready\\n";
my $count = syswrite($file, 'A' x 65536);
print defined $count ? "wrote $count\\n" : "failed: $!\\n";
print $file->sync ? "flushed\\n" : "failed: $!\\n";
print "@seen\\n";
`;

it('handled signals: a write and an fsync of a slow server succeed, and the handlers run', async () => {
  const scope = createScope();
  const model = new VolatileDisk(MIB);
  const handler: RequestHandler = (request, reply) => {
    if (request.type === 0) model.handle(request, reply);
    else setTimeout(() => model.handle(request, reply), 3500);
  };
  const server = await startScriptedServer(scope, { size: 1_048_576n, flags: MULTI_CONN_FLAGS }, handler);
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none'] });
  const writer = new Program(scope, 'env', ['--default-signal', 'perl', '-e', GOES_ON, disk.file]);
  const signals = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;
  for (const type of [1, 3]) {
    await until('the request', () => server.requests.some((request) => request.type === type));
    for (const signal of signals) process.kill(writer.pid, signal);
  }
  expect(await writer.ended).toBe(0);
  const [ready, written, flushed, seen = ''] = writer.stdout.split('\n');
  expect([ready, written, flushed]).toEqual(['ready', 'wrote 65536', 'flushed']);
  expect(new Set(seen.split(' '))).toEqual(new Set(['HUP', 'INT', 'QUIT', 'TERM']));
  expect(model.stable.subarray(0, 65_536).equals(Buffer.alloc(65_536, 'A'))).toBe(true);
});

it('handled signals: SIGTERM frees a program that exits by a handler when the server is silent for 30 s', async () => {
  const scope = createScope();
  const { disk, freeze, thaw } = await mountHanging(scope, '--cache=none');
  await freeze();
  const script = `$SIG{TERM} = sub { print "cleaned up\\n"; exit 3 };
    open(my $file, '+<', $ARGV[0]) or die; syswrite($file, 'A' x 65536); print "went on\\n";`;
  const writer = new Program(scope, 'perl', ['-e', script, disk.file]);
  scope.add(thaw);
  await whenWaiting(writer, /request_wait/);
  const start = performance.now();
  await pause(1000);
  process.kill(writer.pid, 'SIGTERM');
  expect(await writer.ended).toBe(3);
  expect(writer.stdout).toBe('cleaned up\n');
  expect(performance.now() - start).toBeGreaterThan(25_000);
  expect(performance.now() - start).toBeLessThan(45_000);
});

/** Whether the process of a pidfile waits for nbdfuse. */
function isWaiting(pidfile: string): boolean {
  const pid = readFileSync(pidfile, 'utf8').trim();
  return pid !== '' && /fuse|folio|request_wait/.test(readFileSync(`/proc/${pid}/wchan`, 'utf8'));
}

/** dd handles SIGINT: it prints its counts. */
const WAYS: [string, string, string][] = [
  ['a direct read', 'if', 'bs=4k iflag=direct of=/dev/null'],
  ['a read through the page cache', 'if', 'bs=64k of=/dev/null'],
  ['a direct write', 'of', 'bs=4k oflag=direct conv=notrunc if=/dev/zero'],
];

it.each(WAYS)('handled signals: Ctrl-C at a terminal ends %s of a hung server', async (_, operand, words) => {
  const scope = createScope();
  const { disk, freeze, thaw } = await mountHanging(scope);
  await freeze();
  const pidfile = scope.path('dd.pid');
  writeFileSync(pidfile, '');
  const command = `echo $$ > '${pidfile}'; exec env --default-signal dd ${operand}='${disk.file}' ${words}`;
  const terminal = new Program(scope, 'script', ['-qec', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  scope.add(thaw);
  await until('a program to wait for the server', () => isWaiting(pidfile));
  const start = performance.now();
  terminal.child.stdin?.write('\x03');
  await terminal.ended;
  expect(performance.now() - start).toBeLessThan(6000);
});
