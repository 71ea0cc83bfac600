// The sandbox of a server: a prefix of its command line, and whether this machine supports it.
//
// `packaging/confine.pl` sets it up with Landlock and then executes the server. As a prefix, it works below
// another server (nbdkit --run) and in a copied command line. Used by src/image, which knows the files of an
// image.

import { access, realpath } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { landlockVersion } from '../linux/landlock.js';
import { CHUNK_SERVER, CHUNK_SERVER_NAME } from './chunk-program.js';
import { findProgram } from './program.js';
import { proxyName } from './proxy.js';

/** The files that a confined program may open, besides the programs, libraries and settings of the system. */
export interface Confinement {
  /** Absolute paths. */
  readonly readable?: readonly string[];
  readonly writable?: readonly string[];
  /** Whether it gets a directory for temporary files. */
  readonly temporary?: boolean;
  /** Whether it may make sockets in /tmp, as `nbdkit -U -` does. */
  readonly sockets?: boolean;
  /** Whether it is a program of nbdfuse, which node runs, or starts one. */
  readonly ours?: boolean;
  /** Whether it may use TCP. */
  readonly network?: boolean;
}

/** The program that makes the sandbox. */
export const LAUNCHER = fileURLToPath(new URL('../../packaging/confine.pl', import.meta.url));
/** The directories whose programs packaging/confine.pl lets run. */
const PROGRAMS = /^\/(usr|lib|lib32|lib64|libx32|bin|sbin|nix\/store|gnu\/store)\//;

/** The command line of a program in the sandbox. */
export function confinedWords(argv: readonly string[], allowed: Confinement): readonly string[] {
  const { readable = [], writable = [] } = allowed;
  const letters = { p: allowed.ours, t: allowed.temporary, s: allowed.sockets, n: allowed.network };
  const flags = Object.entries(letters).flatMap(([letter, isSet]) => (isSet ? [`-${letter}`] : []));
  const files = [...readable.flatMap((path) => ['-r', path]), ...writable.flatMap((path) => ['-w', path])];
  return ['perl', LAUNCHER, ...flags, ...files, '--', ...argv];
}

/** The command line without the sandbox. */
export function bareWords(argv: readonly string[]): readonly string[] {
  return argv[1] === LAUNCHER ? argv.slice(argv.indexOf('--') + 1) : argv;
}

/** Options of env(1) with a value of their own. */
const ENV_OPTIONS = ['-u', '-C', '--unset', '--chdir'];

/** The program that a command line starts, for messages: neither the sandbox nor env(1). */
export function programOf(argv: readonly string[]): string {
  const words = bareWords(argv);
  const proxy = proxyName(words);
  if (proxy !== undefined) return proxy;
  let at = 0;
  if (basename(words[0] ?? '') === 'env') {
    at = 1;
    while (/^-|=/.test(words[at] ?? '')) at += ENV_OPTIONS.includes(words[at] ?? '') ? 2 : 1;
  }
  if (words[at + 1] === CHUNK_SERVER) return CHUNK_SERVER_NAME;
  return words[at] ?? words[0] ?? 'the server';
}

/** Why there is no sandbox here for the programs; undefined when there is one. */
export async function whyUnconfined(programs: readonly string[]): Promise<string | undefined> {
  if (landlockVersion() < 1) return 'the kernel has no Landlock';
  try {
    await findProgram('perl');
    await access(LAUNCHER);
  } catch {
    return 'perl is not installed';
  }
  for (const name of ['perl', ...programs]) {
    const path = await realpath(await findProgram(name));
    if (!PROGRAMS.test(path)) return `${path} is not in a system directory`;
  }
  return undefined;
}
