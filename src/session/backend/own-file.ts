// System calls on a file of our own mount.
//
// Invariant: no thread of a process that serves a file waits for that file, and no descriptor of it is in that process's
// table. Nothing interrupts such a wait: after a SIGKILL the thread would keep the FUSE device open, and wait for ever
// for an answer that nobody gives any more. A new child gets a copy of the table, and closes the copy before it runs its
// program: closing a FUSE file waits for its dirty pages, which may wait for that child. So a program makes these calls.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { O_NOFOLLOW, O_PATH } from '../../constants/open-flags.js';
import { SYNC_FILE_RANGE } from '../../constants/system-calls.js';
import { pathThrough } from '../../linux/path.js';
import { wordsWithPath } from '../../linux/path-text.js';
import { findProgram } from '../../transport/program.js';

/** The child's descriptor of the root of the mount. */
const ROOT = 3;

/** SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER. */
const WRITE_AND_WAIT = 7;

/**
 * The words are an act, its number and a path. Opens the file with O_PATH, so that it can be verified to be in the mount
 * of descriptor 3 before anything is done to it.
 */
const PROGRAM = `
my ($act, $number, $path) = @ARGV;
sub mount_of {
  open my $info, '<', "/proc/self/fdinfo/$_[0]" or exit 1;
  for (<$info>) { return $1 if /^mnt_id:\\s*(\\d+)/ }
  exit 1;
}
sysopen my $place, $path, ${O_PATH} | ($path eq '${pathThrough(ROOT)}' ? 0 : ${O_NOFOLLOW}) or exit 1;
exit 1 if mount_of(fileno $place) != mount_of(${ROOT});
my $through = '/proc/self/fd/' . fileno $place;
if ($act eq 'write-back') {
  open my $file, '<', $through or exit 1;
  syscall($number + 0, fileno $file, 0, 0, ${WRITE_AND_WAIT}) == 0 or exit 1;
} else {
  stat $through or exit 1;
  truncate($through, $number) or exit 1;
}`;

/** Whether `writeBack` and `setSize` work here: they need perl. */
export async function hasOwnFileCalls(): Promise<boolean> {
  return findProgram('perl').then(
    () => true,
    () => false,
  );
}

/** A file of a mount. */
export interface OwnFile {
  /** An O_PATH descriptor of the mount's root. */
  readonly root: number;
  /** The file's name in the root; empty: the root itself. */
  readonly name: string;
}

/** Runs a program whose last word is the file. @throws Error if it fails, or is missing */
async function run({ root, name }: OwnFile, command: readonly string[]): Promise<void> {
  const [program, ...words] = wordsWithPath(command, pathThrough(ROOT, name));
  const child = spawn(program, words, {
    stdio: ['ignore', 'ignore', 'ignore', root],
    cwd: '/',
    env: { ...process.env, PERL_BADLANG: '0' },
  });
  const [status] = await once(child, 'exit');
  if (status !== 0) throw new Error(`${program} failed`);
}

const act = (file: OwnFile, what: string, number: number): Promise<void> =>
  run(file, ['perl', '-e', PROGRAM, what, String(number)]);

/**
 * Writes a file's dirty pages back, without fsync(2) and its locks, and resolves when all these writes have replies.
 * @throws Error if that fails, or perl is missing
 */
export async function writeBack(file: OwnFile): Promise<void> {
  if (SYNC_FILE_RANGE === undefined)
    throw new Error(`sync_file_range(2) has no known number on ${process.arch}`);
  await act(file, 'write-back', SYNC_FILE_RANGE);
}

/** Makes the kernel ask for a file's attributes; needs no perl. @throws Error if that fails */
export function readAttributes(file: OwnFile): Promise<void> {
  return run(file, ['/bin/sh', '-c', '[ -e "$0" ]']);
}

/** Makes the kernel ask for a file's attributes, and then set its size. @throws Error if that fails, or perl is missing */
export function setSize(file: OwnFile, size: number): Promise<void> {
  return act(file, 'set-size', size);
}
