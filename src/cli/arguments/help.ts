// The texts of --help, --long-options and --short-options.
//
// Called by main.ts. Loads only the list of options, so that --help starts fast.

import { longOptionNames, type NamedOption, OPTION_GROUPS, OPTIONS, shortOptionNames } from './options.js';

const USAGE = `Show an NBD export or a disk image as one raw file.

Usage:
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] IMAGE
    nbdfuse [OPTIONS] MOUNTPOINT[/FILENAME] SERVER
    nbdfuse [OPTIONS] --all DIR SERVER
    nbdfuse [OPTIONS] --partitions DIR IMAGE|SERVER
    nbdfuse --list [--json] SERVER
    nbdfuse --status [--watch] [--json|--format=FORMAT] MOUNTPOINT
    nbdfuse --list-mounts [--status] [--json|--format=FORMAT]
    nbdfuse --unmount MOUNTPOINT
    nbdfuse cache list [--json] [DIR|FILE ...]
    nbdfuse cache verify FILE
    nbdfuse cache prune [--cache-size=SIZE] FILE|DIR
    nbdfuse cache export [--partial] FILE OUT
    nbdfuse --completion SHELL

MOUNTPOINT is an existing directory, in which the file is called FILENAME (default: nbd), or an
existing regular file, which becomes the disk.

IMAGE is a disk image: a file, a block device or a URL. It may be compressed. nbdfuse starts a
server for it. With --partition or --overlay, IMAGE may also be an nbd:// URI.

SERVER is one of:
    URI                                 an NBD URI, such as nbd://HOST/EXPORT
    [ CMD [ARGS ...] ]                  start CMD and pass it a listening socket (socket activation)
    --socket-activation CMD [ARGS ...]  the same without brackets
    --command CMD [ARGS ...]            start CMD, which speaks NBD on its stdin and stdout
    --tcp HOST PORT                     connect to a running server over TCP
    --unix SOCKET                       connect over a Unix socket
    --vsock CID PORT                    connect over AF_VSOCK
    --fd N                              use the connected socket inherited as file descriptor N
`;

const EXAMPLES = `Examples:
    nbdfuse --daemon dir/disk.raw disk.qcow2    show a qcow2 image as the raw file dir/disk.raw
    nbdfuse --daemon -r dir nbd://host/export   show an export read-only as the file dir/nbd
    nbdfuse --unmount dir                       write all data to the server, and unmount
`;

/** The text of --help. */
export function helpText(): string {
  const width = Math.max(...OPTIONS.map((option) => termOf(option).length));
  const indent = ' '.repeat('    '.length + width + '  '.length);
  const lineOf = (option: NamedOption): string =>
    `    ${termOf(option).padEnd(width)}  ${descriptionOf(option).replaceAll('\n', `\n${indent}`)}\n`;
  const groups = OPTION_GROUPS.map(({ title, options }) => `${title}:\n${options.map(lineOf).join('')}`);
  return [USAGE, ...groups, EXAMPLES].join('\n');
}

/** All names of an option, with the name of its value: `-C, --connections N`, `--overlay[=FILE]`. */
function termOf({ names, flags }: NamedOption): string {
  const required = /<(.*)>/.exec(flags);
  const optional = /\[(.*)\]/.exec(flags);
  const value = required !== null ? ` ${required[1]}` : optional !== null ? `[=${optional[1]}]` : '';
  return names.join(', ') + value.toUpperCase();
}

function descriptionOf({ description, defaultValueDescription }: NamedOption): string {
  return defaultValueDescription === undefined
    ? description
    : `${description} (default: ${defaultValueDescription})`;
}

/** The text of --long-options: one a line, without the two options that list. */
export function longOptionsText(): string {
  return longOptionNames()
    .map((name) => `${name}\n`)
    .join('');
}

/** The text of --short-options: one name per line. */
export function shortOptionsText(): string {
  return shortOptionNames()
    .map((name) => `${name}\n`)
    .join('');
}
