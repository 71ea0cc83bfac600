// The text of --version.
//
// Stands in this directory since the path to package.json must hold for the bundled program, too.

import { readFileSync } from 'node:fs';

/** The text of --version: the package's name and version. */
export function versionText(): string {
  const description: unknown = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  const { name, version } = description as { name: string; version: string };
  return `${name} ${version}\n`;
}
