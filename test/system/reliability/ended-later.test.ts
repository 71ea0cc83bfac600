// A program that waits for a hung server can be ended even after a signal that it survived: the kernel does not report
// the second signal.

import { readFile, statfs } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { type Hanging, mountHanging, whenWaiting } from '../../support/hanging.js';
import { Program, type ProgramOptions } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'python3', 'perl', 'getfattr');

const MIB = 2 ** 20;

/** Milliseconds within which the program must end; the server hangs for longer. */
const FREED = 5000;

/** Milliseconds in which nbdfuse checks waiting programs at least twice. */
const LOOKS = 1600;

/** The place of the first program's writes, and of those of the others. */
const PLACE = 8 * MIB;
const OTHER = 32 * MIB;

/** The content that the programs write there. */
const NEW = Buffer.alloc(4096, 'n');

/** Waits for a line, then for nbdfuse. */
const python = (call: string): string[] => [
  'python3',
  '-c',
  `
import mmap, os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
place = int(sys.argv[2])
fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
page.write(b'n' * 4096)
print('ready', flush=True)
sys.stdin.readline()
${call}
print('went on', flush=True)
`,
];

/** Its number on this machine. */
const SYS_FALLOCATE = process.arch === 'arm64' ? 47 : 285;

/** Zeroes a page. Perl, since Debian's smallest Python has no call for it. */
const PERL = `
$| = 1;
$SIG{USR1} = sub {};
open(my $file, '+<', $ARGV[0]) or die;
print "ready\\n";
<STDIN>;
syscall(${SYS_FALLOCATE}, fileno($file), 0x11, $ARGV[1] + 0, 4096);
print "went on\\n";
`;

const WRITE = python('os.pwrite(fd, page, place)');
const FSYNC = python('os.fsync(fd)');
const LSEEK = python('os.lseek(fd, 0, os.SEEK_HOLE)');
const FALLOCATE = ['perl', '-e', PERL];

/** Starts a program that calls the server, and waits for it, after `go`. */
async function startCaller(
  scope: Scope,
  { disk, thaw }: Hanging,
  words: readonly string[],
  place: number,
): Promise<Program> {
  const stdio = { stdio: ['pipe', 'pipe', 'pipe'] } satisfies ProgramOptions;
  const program = new Program(scope, 'env', ['--default-signal', ...words, disk.file, `${place}`], stdio);
  // Otherwise a program that nbdfuse does not free could not even be killed.
  scope.add(thaw);
  await program.says(/ready/);
  return program;
}

const go = ({ child }: Program): void => void child.stdin?.end('go\n');

const whenAsking = (program: Program): Promise<void> => whenWaiting(program, /request_wait/);

/** Sends a signal that the program handles, and waits until nbdfuse has received the FUSE_INTERRUPT. */
async function disturb(program: Program, { disk }: Hanging): Promise<void> {
  process.kill(program.pid, 'SIGUSR1');
  // When the program is uninterruptible, the kernel has sent it; when nbdfuse answers a later request, it has
  // read it.
  await until('nbdfuse to get the harmless signal', async () =>
    /^State:\s+D/m.test(await readFile(`/proc/${program.pid}/status`, 'utf8')),
  );
  await statfs(disk.mountpoint);
}

it.each<[string, string[], NodeJS.Signals, string]>([
  ['a direct write', WRITE, 'SIGTERM', 'writeback'],
  ['an fsync', FSYNC, 'SIGKILL', 'writeback'],
  ['fallocate', FALLOCATE, 'SIGTERM', 'writeback'],
  ['lseek', LSEEK, 'SIGTERM', 'none'],
])('signals after a handled signal: end a program that waits for %s', async (_, words, signal, cache) => {
  const scope = createScope();
  const hanging = await mountHanging(scope, `--cache=${cache}`);
  const { disk, image, freeze, thaw } = hanging;
  const program = await startCaller(scope, hanging, words, PLACE);
  // Otherwise closing the file would wait for the kernel's dirty pages, and even SIGKILL could not end that.
  await writeAt(disk.file, Buffer.alloc(MIB, 'o'), OTHER);
  await freeze();
  go(program);
  await whenAsking(program);
  await disturb(program, hanging);
  const start = performance.now();
  expect(await program.kill(signal)).toBe(signal);
  expect(performance.now() - start).toBeLessThan(FREED);
  expect(program.stdout).toBe('ready\n');
  thaw();
  expect(await readAt(image, OTHER, MIB)).toEqual(Buffer.alloc(MIB, 'o'));
  await writeAt(disk.file, Buffer.alloc(4096, 'm'), PLACE);
  expect(await readAt(disk.file, PLACE, 4096)).toEqual(Buffer.alloc(4096, 'm'));
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
});

it('signals after a handled signal: end a write that read threads have forwarded', async () => {
  const scope = createScope();
  const options = ['--threads=3', '-C', '2', '--cache=none'];
  const hanging = await mountHanging(scope, ...options);
  const { disk, image, freeze, thaw } = hanging;
  const places = Array.from({ length: 6 }, (_, i) => PLACE + i * MIB);
  const programs = await Promise.all(places.map((place) => startCaller(scope, hanging, WRITE, place)));
  await writeAt(disk.file, Buffer.alloc(MIB, 'o'), OTHER);
  await freeze();
  for (const program of programs) {
    go(program);
    await whenAsking(program);
    await disturb(program, hanging);
  }
  const start = performance.now();
  await Promise.all(programs.map((program) => program.kill('SIGTERM')));
  expect(performance.now() - start).toBeLessThan(FREED);
  for (const { stdout } of programs) expect(stdout).toBe('ready\n');
  thaw();
  expect(await readAt(disk.file, OTHER, MIB)).toEqual(Buffer.alloc(MIB, 'o'));
  expect(await disk.stop()).toBe(0);
  for (const place of places) expect(await readAt(image, place, NEW.length)).toEqual(NEW);
});

it('blocked signals: do not end a program', async () => {
  const scope = createScope();
  const hanging = await mountHanging(scope);
  const { freeze, thaw } = hanging;
  const words = python(`
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
print(os.pwrite(fd, page, place), signal.sigpending())`);
  const program = await startCaller(scope, hanging, words, PLACE);
  await freeze();
  go(program);
  await whenAsking(program);
  process.kill(program.pid, 'SIGTERM');
  await disturb(program, hanging);
  await setTimeout(LOOKS);
  thaw();
  expect(await program.ended).toBe(0);
  expect(program.stdout).toMatch(/^ready\n4096 .*SIGTERM.*\nwent on\n$/);
});
