// The current directory of an image's server, which keeps it busy.
//
// Used by prepare.ts. Most command lines have absolute paths only; the others depend on the current directory.

import { existsSync } from 'node:fs';

/** `/`, unless a word, or its value after a `=`, is the relative path of a file: then undefined. */
export function serverDirectory(argv: readonly string[]): string | undefined {
  const parts = argv.flatMap((word) => {
    const pieces = word.split('=');
    return pieces.map((_, i) => pieces.slice(i).join('='));
  });
  const isRelative = parts.some((part) => part !== '' && !part.startsWith('/') && existsSync(part));
  return isRelative ? undefined : '/';
}
