// Checks that the programs and plugins of a server are installed.
//
// Used by prepare.ts before it starts anything, so that the message can name the package to install.

import { execFile } from 'node:child_process';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram } from '../transport/program.js';
import { ImageError } from './errors.js';
import type { Program } from './plan.js';

const run = promisify(execFile);

/** Packages of Debian and Ubuntu; in Fedora nbdkit's plugins and filters are packages of their own. */
const PACKAGES: Readonly<Record<string, string>> = {
  'qemu-nbd': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  nbdkit: 'nbdkit',
};

/** Milliseconds that nbdkit may take to print its directories. */
const DUMP_TIME = 10_000;

/** Whether a program is in PATH. */
export async function hasProgram(name: string): Promise<boolean> {
  return findProgram(name).then(
    () => true,
    () => false,
  );
}

/** The programs of `names` that are in PATH. */
export async function installedOf(names: readonly Program[]): Promise<readonly Program[]> {
  const found = await Promise.all(names.map(hasProgram));
  return names.filter((_, index) => found[index]);
}

/** @throws ImageError that names the package, when a program is not in PATH */
export async function requirePrograms(
  what: string,
  programs: readonly (Program | 'qemu-img')[],
): Promise<void> {
  for (const name of programs) {
    if (await hasProgram(name)) continue;
    throw new ImageError(
      `${what} needs ${name}, which is not in PATH: apt-get install ${PACKAGES[name] ?? name}`,
    );
  }
}

/** The output of `nbdkit --dump-config`, which names the directories of its plugins and filters. */
export type NbdkitConfig = string;

function directoryOf(config: NbdkitConfig, key: 'plugindir' | 'filterdir'): string {
  return new RegExp(`^${key}=(.*)$`, 'm').exec(config)?.[1] ?? '';
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** @throws ImageError when nbdkit has no such plugin */
export async function requirePlugin(what: string, plugin: string): Promise<NbdkitConfig> {
  const { stdout } = await run('nbdkit', ['--dump-config'], { timeout: DUMP_TIME });
  if (await isThere(join(directoryOf(stdout, 'plugindir'), `nbdkit-${plugin}-plugin.so`))) return stdout;
  throw new ImageError(
    `${what} needs nbdkit's ${plugin} plugin, which is not installed: ` +
      `apt-get install nbdkit (Fedora: dnf install nbdkit-${plugin}-plugin)`,
  );
}

/** Whether nbdkit has a filter. */
export async function hasFilter(config: NbdkitConfig, name: string): Promise<boolean> {
  return isThere(join(directoryOf(config, 'filterdir'), `nbdkit-${name}-filter.so`));
}
