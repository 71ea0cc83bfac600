// The version of the program.
//
// Stands in this directory since the path to package.json must hold for the bundled program, too.

import { readFileSync } from 'node:fs';

interface Description {
  readonly name: string;
  readonly version: string;
}

/** The package's name and version. They are those on disk, maybe newer than the program in memory. */
function description(): Description {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as Description;
}

/** The version, such as `1.2.3`. A mount asks once, at its start: the program may be upgraded while it runs. */
export function programVersion(): string {
  return description().version;
}

/** The text of --version. */
export function versionText(): string {
  const { name, version } = description();
  return `${name} ${version}\n`;
}
