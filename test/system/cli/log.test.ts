// The messages of a mount in the background: syslog, --log-file, and journald.

import { fstatSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';

requireRoot();
requirePrograms('nbdkit', 'unshare', 'mount', 'perl');

/** A /dev with a socket of syslog, whose datagrams become lines of the file $1/log. */
const SYSLOG = `
set -e
cd "$1"
mkdir dev mnt
mount -t tmpfs dev dev
for name in null zero full random urandom tty fuse; do cp -a /dev/$name dev/; done
ln -s /proc/self/fd dev/fd
mount --rbind dev /dev
perl -MIO::Socket::UNIX -e '$| = 1; my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "/dev/log") or die;
  open(my $ready, ">", "listening"); close $ready; while (defined $s->recv(my $text, 65536)) { print "$text\\n" }' >log &
listener=$!
while [ ! -e listening ]; do sleep 0.05; done`;

/** Mounts in the background with the options $NBDFUSE_OPTIONS, and ends the server. */
const LOSE_SERVER = `
node "$NBDFUSE" --daemon $OPTIONS -P pid mnt [ nbdkit -P server memory 1M ]
pid=$(cat pid)
head -c 1 mnt/nbd >/dev/null
kill -9 $(cat server)`;

const LOST =
  'mnt/nbd: the server is lost: nbdkit was killed by SIGKILL; reads and writes fail with EIO from now on';

it('--daemon: sends later messages to syslog, with their priority', async () => {
  const scope = createScope();
  const script = `${SYSLOG}
    OPTIONS= ; NBDFUSE=$2 ${LOSE_SERVER}
    while ! grep -q lost log; do sleep 0.05; done
    umount mnt; while kill -0 $pid 2>/dev/null; do sleep 0.05; done; kill $listener; sed "s/\\[$pid\\]/[PID]/" log`;
  const program = new Program(scope, 'unshare', ['-m', 'sh', '-c', script, 'sh', scope.folder, NBDFUSE]);
  expect([await program.ended, program.stderr]).toEqual([0, '']);
  const [first] = program.stdout.split('\n');
  expect(first).toMatch(/^<28>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d nbdfuse\[PID\]: /);
  expect(first.replace(/^.*PID\]: /, '')).toBe(LOST);
});

it('--log-file: has the messages, also those before the file is ready', async () => {
  const scope = createScope();
  const log = scope.path('log');
  await runProgram('mkdir', scope.path('mnt'));
  const script = `cd "$1"; OPTIONS="-v --log-file log"; NBDFUSE=$2 ${LOSE_SERVER}
    while ! grep -q 'is lost' log; do sleep 0.05; done
    umount mnt; while kill -0 $pid 2>/dev/null; do sleep 0.05; done`;
  const program = new Program(scope, 'sh', ['-c', script, 'sh', scope.folder, NBDFUSE]);
  expect(await program.ended).toBe(0);
  const lines = (await readFile(log, 'utf8')).trimEnd().split('\n');
  expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z nbdfuse: /);
  expect(lines.some((line) => line.endsWith(` nbdfuse: ${LOST}`))).toBe(true);
  // The trace of the worker thread.
  expect(lines.some((line) => /^nbdfuse: #\d+ FUSE_/.test(line))).toBe(true);
  expect(program.stderr).toContain('nbdfuse: threads=1\n');
  expect(program.stderr).not.toContain('is lost');
});

it('--log-file: ends the start when it cannot be written, and gets the error of a start', async () => {
  const scope = createScope();
  await runProgram('mkdir', scope.path('mnt'));
  const run = (file: string, words: readonly string[]) =>
    tryProgram('node', NBDFUSE, '--log-file', scope.path(file), scope.path('mnt'), ...words);
  expect(await run('none/log', ['[', 'nbdkit', 'null', ']'])).toEqual({
    status: 1,
    stdout: '',
    stderr: `nbdfuse: cannot open the log file ${scope.path('none/log')}: no such file or directory\n`,
  });
  const refused = await run('log', ['--unix', scope.path('none')]);
  expect(refused).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^nbdfuse: cannot connect to socket /),
  });
  expect(await readFile(scope.path('log'), 'utf8')).toMatch(new RegExp(`^\\S+ ${refused.stderr}$`));
});

it('journald: messages on standard error begin with their priority', async () => {
  const scope = createScope();
  // A file stands in for the socket of journald.
  const file = openSync(scope.path('journal'), 'a');
  const { dev, ino } = fstatSync(file);
  const program = new Program(scope, 'node', [NBDFUSE, scope.path('none/x'), '--unix', scope.path('none')], {
    stdio: ['ignore', 'ignore', file],
    env: { JOURNAL_STREAM: `${dev}:${ino}` },
  });
  expect(await program.ended).toBe(1);
  expect(await readFile(scope.path('journal'), 'utf8')).toMatch(/^<3>nbdfuse: mountpoint .*\n$/);
});
