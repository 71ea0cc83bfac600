// The output of --help, --version, --long-options and --short-options.
//
// Called by main.ts. Loads nothing but commander's formatting of the options.

import { readFileSync } from 'node:fs';
import { createCommand } from 'commander';
import { longOptionNames, OPTIONS, shortOptionNames } from './options.js';

const USAGE = `Mount an NBD server as a file:

    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] URI

or a disk image, a local file or a URL, compressed or not:

    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] IMAGE

Other ways to name the server:

    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] [ CMD [ARGS ...] ]
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] --socket-activation CMD [ARGS ...]
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] --command CMD [ARGS ...]
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] --fd N
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] --tcp HOST PORT
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] --unix SOCKET
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] --vsock CID PORT

Every export of a server as a file of a directory:

    nbdfuse [OPTIONS] --all DIR URI

To see which exports a server has, named in any of these ways:

    nbdfuse --list [--json] URI

MOUNTPOINT is a directory, in which the file is called nbd or FILENAME, or a
regular file, which then is the disk itself.

To unmount, with or without waiting until everything is written:

    nbdfuse --unmount MOUNTPOINT
    fusermount3 -u MOUNTPOINT

To see what a mount does:

    nbdfuse --status [--watch] [--json] MOUNTPOINT

Options:

`;

/** The text of --help. */
export function helpText(): string {
  const formatter = createCommand().createHelp();
  const terms = OPTIONS.map((option) => option.names.join(', ') + valueName(option.flags));
  const width = Math.max(...terms.map((term) => term.length));
  const lines = OPTIONS.map(
    (option, i) => `    ${terms[i].padEnd(width)}  ${formatter.optionDescription(option)}`,
  );
  return `${USAGE}${lines.join('\n')}\n`;
}

/** ` <value>` or `[=value]` of an option's flags, or nothing. */
function valueName(flags: string): string {
  const found = /<.*>/.exec(flags);
  if (found !== null) return ` ${found[0]}`;
  return flags.replace(/^[^[]*/, '').replace('[', '[=');
}

/** The text of --version: the package's name and version. */
export function versionText(): string {
  const description: unknown = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  const { name, version } = description as { name: string; version: string };
  return `${name} ${version}\n`;
}

/** The text of --long-options: one a line, without the two options that list. */
export function longOptionsText(): string {
  return longOptionNames()
    .map((name) => `${name}\n`)
    .join('');
}

/** The text of --short-options. */
export function shortOptionsText(): string {
  return shortOptionNames()
    .map((name) => `${name}\n`)
    .join('');
}
