// The output of the reference program of a format for a file.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { requireProgram } from '../run/requires.js';

/** The output of a reference program. */
export interface Reference {
  readonly bytes: Buffer;
  /** Whether the program was content: status 0, or the 2 of a warning. */
  readonly isWhole: boolean;
  /** Whether it has given a warning. */
  readonly isWarned: boolean;
  readonly message: string;
}

const COMMANDS = {
  xz: ['xz', '-dc'],
  gzip: ['gzip', '-dc'],
  bzip2: ['bzip2', '-dc'],
  zstd: ['zstd', '-qdc'],
  lz4: ['lz4', '-dc'],
} as const;

/** Status of `gzip` and `xz` after a warning. */
const WARNING = 2;

/** The output of an archiver for one file of an archive. @param path where the archive may be written */
export function memberReference(
  archiver: 'unzip' | 'tar',
  { archive, member }: { readonly archive: Uint8Array; readonly member: string },
  path: string,
): Reference {
  writeFileSync(path, archive);
  const args = archiver === 'unzip' ? ['-p', path, member] : ['-xOf', path, member];
  const { stdout, stderr, status } = spawnSync(requireProgram(archiver), args, { maxBuffer: 1 << 28 });
  // unzip has 1 for a warning.
  const isWhole = status === 0 || (archiver === 'unzip' && status === 1);
  // Its warnings are about the archive, not about the file in it.
  return { bytes: stdout, isWhole, isWarned: false, message: stderr.toString('latin1').trim() };
}

/** Runs the reference program on a file. @param path where the file may be written; it gets no suffix of the format */
export function referenceOf(coding: keyof typeof COMMANDS, file: Uint8Array, path: string): Reference {
  const [program, option] = COMMANDS[coding];
  const name = `${path}.${coding === 'gzip' ? 'gz' : coding}`;
  writeFileSync(name, file);
  const { stdout, stderr, status } = spawnSync(requireProgram(program), [option, name], {
    maxBuffer: 1 << 28,
  });
  const isWarned = (coding === 'gzip' || coding === 'xz') && status === WARNING;
  return {
    bytes: stdout,
    isWhole: status === 0 || isWarned,
    isWarned,
    message: stderr.toString('latin1').trim(),
  };
}
