// Parses the option strings of -o.
//
// Called by the session and by --fuse-help. Pure: text in, a FuseOptions out.

import { MountError } from './errors.js';
import { type FuseOptions, HARMLESS_OPTIONS, KNOWN_OPTIONS, MOUNT_FLAGS } from './option-table.js';

export type { FuseOptions };

/** Group's and others' permission bits. */
const NOT_OWNER = 0o077;

/** Splits one -o at its commas; a backslash makes the next character a part of the option. */
function split(text: string): string[] {
  const words = [''];
  for (const [, escaped, plain] of text.matchAll(/\\(.)|(.)/gsu)) {
    if (plain === ',') words.push('');
    else words[words.length - 1] += escaped ?? plain;
  }
  return words.filter((word) => word !== '');
}

/** The options of all -o together; later ones override earlier ones. @throws MountError that names the wrong one */
export function parseFuseOptions(texts: readonly string[]): FuseOptions {
  const options: FuseOptions = {
    allowOther: false,
    allowRoot: false,
    autoUnmount: false,
    readOnly: false,
    nonempty: false,
    autoCache: false,
    directIo: false,
    asyncRead: true,
    mountFlags: [],
  };
  for (const word of texts.flatMap(split)) apply(word, options);
  if (options.allowOther && options.allowRoot) {
    throw new MountError('-o allow_other and -o allow_root cannot be used together');
  }
  // The kernel has allow_other only; the permissions then exclude everybody but root.
  if (options.allowRoot) options.umask = (options.umask ?? 0) | NOT_OWNER;
  return options;
}

function apply(word: string, options: FuseOptions): void {
  const [name, ...rest] = word.split('=');
  const value = rest.length === 0 ? undefined : rest.join('=');
  if (HARMLESS_OPTIONS.includes(name) || name.startsWith('x-')) return;
  if (Object.hasOwn(MOUNT_FLAGS, name) && value === undefined) {
    options.mountFlags.push(name);
    return;
  }
  const known = KNOWN_OPTIONS.find((option) => option.name === name);
  if (known === undefined) throw new MountError(unknownOption(name));
  if ((known.value === undefined) !== (value === undefined)) {
    const form = known.value === undefined ? 'takes no value' : `needs a value: ${name}=${known.value}`;
    throw new MountError(`-o ${name}: ${form}`);
  }
  if (value === '' && known.value === 'NAME') throw new MountError(`-o ${name}=: the name is empty`);
  known.apply(options, value ?? '');
}

function unknownOption(name: string): string {
  if (name === 'remount')
    return '-o remount: nbdfuse cannot change a mount: unmount, and mount again; flags such as ro: mount -o remount,ro DIR';
  return `-o ${name}: unknown option; nbdfuse --fuse-help lists the known ones`;
}

/** Columns of the text of --fuse-help. */
const HELP_WIDTH = 100;

/** A heading and below it the names, in indented lines that fit. */
function wrapped(heading: string, names: readonly string[]): string {
  const lines = ['    '];
  names.forEach((name, i) => {
    const word = i === names.length - 1 ? name : `${name},`;
    const line = lines[lines.length - 1];
    if (line.length + word.length > HELP_WIDTH) lines.push(`    ${word} `);
    else lines[lines.length - 1] = `${line}${word} `;
  });
  return [heading, ...lines.map((line) => line.trimEnd())].join('\n');
}

/** The text of --fuse-help: one option per line, then the names without a description. */
export function fuseOptionsHelp(): string {
  const terms = KNOWN_OPTIONS.map(({ name, value }) => (value === undefined ? name : `${name}=${value}`));
  const width = Math.max(...terms.map((term) => term.length));
  const lines = KNOWN_OPTIONS.map(({ text }, i) => `    -o ${terms[i].padEnd(width)}  ${text}`);
  return [
    'Options for -o, separated by commas:',
    '',
    ...lines,
    '',
    wrapped('General mount options, see mount(8):', Object.keys(MOUNT_FLAGS)),
    '',
    wrapped('Options that nbdfuse accepts and ignores:', HARMLESS_OPTIONS),
    '',
  ].join('\n');
}
