// The words that the completions of all shells offer: values of options, ways to name a server, mountpoints. Pure.

import { KNOWN_OPTIONS, MOUNT_FLAGS } from '../../mount/option-table.js';
import { CHOICES, type NamedOption, takesValue } from './options.js';

/** The kind of an option's value. `free`: the shell offers nothing. */
export type ValueKind =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'file' | 'directory' | 'mount-options' | 'metrics' | 'free' };

const VALUES: Readonly<Record<string, Exclude<ValueKind['kind'], 'words'> | readonly string[]>> = {
  ...CHOICES,
  '--reconnect': ['forever'],
  '--settle-time': ['never'],
  '--key-file': 'file',
  '--overlay': 'file',
  '--pidfile': 'file',
  '--cache-file': 'file',
  '--trace': 'file',
  '--log-file': 'file',
  '--cache-dir': 'directory',
  '-o': 'mount-options',
  '--metrics': 'metrics',
  '--export': 'free',
  '--member': 'free',
  '--partition': 'free',
  '--snapshot-name': 'free',
  '--connections': 'free',
  '--threads': 'free',
  '--timeout': 'free',
  '--cache-size': 'free',
  '--cache-memory': 'free',
  '--prefetch': 'free',
};

/** The kind of an option's value; undefined for an option without one. @throws Error for an option that is not in VALUES */
export function valueKindOf(option: NamedOption): ValueKind | undefined {
  if (!takesValue(option)) return undefined;
  const name = option.names.find((one) => Object.hasOwn(VALUES, one));
  if (name === undefined) throw new Error(`no completion for the value of ${option.flags}`);
  const found = VALUES[name];
  return typeof found === 'string' ? { kind: found } : { kind: 'words', words: found };
}

/** An option of -o. */
export interface MountOption {
  readonly name: string;
  readonly takesValue: boolean;
  readonly description: string;
}

/** The options of -o that do something. */
export const MOUNT_OPTIONS: readonly MountOption[] = [
  ...KNOWN_OPTIONS.map(({ name, value, text }) => ({
    name,
    takesValue: value !== undefined,
    description: text,
  })),
  ...Object.keys(MOUNT_FLAGS).map((name) => ({ name, takesValue: false, description: 'see mount(8)' })),
];

/** Beginnings of URIs. */
export const URIS: readonly string[] = ['nbd://', 'nbds://', 'nbd+unix:///', 'nbd+vsock://', 'nbd+ssh://'];

/** The words before a command that nbdfuse starts. */
export const COMMAND_WORDS: readonly string[] = [
  ...['[', '--command', '--cmd', '--socket-activation', '--systemd-socket-activation'],
];

/** The options whose MOUNTPOINT is a mount. */
export const MOUNTED_WORDS: readonly string[] = ['--status', '--unmount'];

/**
 * A line of sh(1) that prints the option subtype=NAME of each running nbdfuse: its mount has the type fuse.NAME. It
 * accesses no mount, which may hang.
 */
export const PRINT_SUBTYPES =
  'grep -slaz nbdfuse /proc/[0-9]*/cmdline | xargs -r grep -shazo "subtype=[^, ]*" | tr "\\0" "\\n"';
