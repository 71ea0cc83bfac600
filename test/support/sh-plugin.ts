// A script for nbdkit's sh plugin that logs requests and fails those that a test chooses.
//
// Used by tests that must see each request as the server saw it. One line per request: `pread 4096 0`,
// `pwrite 512 1024 fua`, `flush`, `zero …`, `trim …`, `open NAME`.

import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import type { Scope } from './run/scope.js';

/** The behaviour of the script besides logging. */
export interface ShPluginOptions {
  /** Bytes of the disk, which is a sparse file. */
  readonly size: number;
  /** Lines of `case "$1 $4" in` with the method and the offset: `'pread 65536') echo EIO … >&2; exit 1;;` */
  readonly failures?: readonly string[];
  /** Methods that the server does not offer, of can_write, can_zero, can_trim, can_flush, can_fua. */
  readonly cannot?: readonly string[];
  /** Minimum, preferred and maximum, as nbdkit reads them. Default: the server announces none. */
  readonly blockSizes?: string;
}

/** A script and its log. */
export interface ShPlugin {
  readonly script: string;
  /** The disk's content. */
  readonly disk: string;
  /** The calls so far, one per line. */
  log(): string[];
}

function scriptText(disk: string, log: string, options: ShPluginOptions): string {
  const { size, failures = [], cannot = [], blockSizes } = options;
  // For a can_… method, status 3 says no.
  const denied = cannot.map((name) => `  ${name}) exit 3;;`);
  return [
    '#!/bin/sh',
    `disk='${disk}'`,
    `log() { echo "$*" >> '${log}'; }`,
    'case "$1 $4" in',
    ...failures.map((line) => `  ${line}`),
    'esac',
    'case "$1" in',
    ...denied,
    '  thread_model) echo parallel;;',
    '  open) log open "$3";;',
    `  get_size) echo ${size};;`,
    '  pread) log "$1 $3 $4"; dd if="$disk" bs=64k count=$3 skip=$4 iflag=skip_bytes,count_bytes status=none;;',
    '  pwrite) log "$1 $3 $4 $5"; dd of="$disk" bs=64k seek=$4 oflag=seek_bytes conv=notrunc status=none;;',
    // tmpfs cannot do the former.
    '  zero) log "$1 $3 $4 $5"; fallocate -z -o $4 -l $3 "$disk" 2>/dev/null ||',
    '    head -c $3 /dev/zero | dd of="$disk" bs=64k iflag=fullblock seek=$4 oflag=seek_bytes conv=notrunc status=none;;',
    '  trim) log "$1 $3 $4 $5"; fallocate -p -o $4 -l $3 "$disk";;',
    '  flush) log flush;;',
    '  can_write|can_zero|can_trim|can_flush) exit 0;;',
    '  can_fua) echo native;;',
    ...(blockSizes === undefined ? [] : [`  block_size) echo ${blockSizes};;`]),
    '  *) exit 2;;',
    'esac',
    '',
  ].join('\n');
}

/** Writes the script into the scope's folder; nbdkit takes it as `sh SCRIPT`. */
export function createShPlugin(scope: Scope, options: ShPluginOptions): ShPlugin {
  const [script, disk, log] = ['plugin.sh', 'plugin.disk', 'plugin.log'].map((name) => scope.path(name));
  writeFileSync(disk, '');
  truncateSync(disk, options.size);
  writeFileSync(log, '');
  writeFileSync(script, scriptText(disk, log, options), { mode: 0o755 });
  return { script, disk, log: () => readFileSync(log, 'utf8').trimEnd().split('\n') };
}
